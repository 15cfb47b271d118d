//! What anybody who may write into the store may say of the rates of clients: read, and written and read again.

use steer_rpc::edge::Told;

/// One value of the store.
pub fn check(data: &[u8]) {
    let Ok(told) = Told::decode(data) else {
        return;
    };
    assert!(told.clients.len() <= data.len() / 16, "no more than there is");
    assert_eq!(Told::decode(&told.encode()), Ok(told), "we read what we write");
}
