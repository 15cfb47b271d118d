//! The edge that runs on the anycast address: a gRPC proxy and client with delivery semantics.
//!
//! Empty until the RPC edge is built: its place in the workspace and its arrows are fixed (`topology` and
//! `health` below it, `steer` above), so that it obeys the same snapshot as DNS and BGP.
