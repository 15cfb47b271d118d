//! What is generated of `proto/`.

#![expect(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]

pub mod shop {
    tonic::include_proto!("shop");
}

pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
