//! `idempotency_level` of the methods in a descriptor set (`protoc --descriptor_set_out`, `buf build`, protox).

use std::collections::BTreeMap;

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel as Level;

use crate::fate::IdempotencyLevel;

/// By path, for each method that says one.
pub(crate) fn levels(octets: &[u8]) -> Result<BTreeMap<String, IdempotencyLevel>, prost::DecodeError> {
    let set = FileDescriptorSet::decode(octets)?;
    let mut levels = BTreeMap::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let level = method
                    .options
                    .as_ref()
                    .map(prost_types::MethodOptions::idempotency_level);
                let level = match level {
                    Some(Level::NoSideEffects) => IdempotencyLevel::NoSideEffects,
                    Some(Level::Idempotent) => IdempotencyLevel::Idempotent,
                    Some(Level::IdempotencyUnknown) | None => continue,
                };
                let package = file.package();
                let dot = if package.is_empty() { "" } else { "." };
                levels.insert(
                    format!("/{package}{dot}{}/{}", service.name(), method.name()),
                    level,
                );
            }
        }
    }
    Ok(levels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_from_what_a_compiler_writes() {
        let folder = tempfile::tempdir().unwrap();
        let proto = "syntax = \"proto3\"; package a.b; message M {} service S { \
            rpc Get(M) returns (M) { option idempotency_level = NO_SIDE_EFFECTS; } \
            rpc Put(M) returns (M) { option idempotency_level = IDEMPOTENT; } \
            rpc Do(M) returns (M); }";
        std::fs::write(folder.path().join("s.proto"), proto).unwrap();
        let set = protox::compile(["s.proto"], [folder.path()]).unwrap();
        let levels = levels(&set.encode_to_vec()).unwrap();
        let expected = [
            ("/a.b.S/Get".to_owned(), IdempotencyLevel::NoSideEffects),
            ("/a.b.S/Put".to_owned(), IdempotencyLevel::Idempotent),
        ];
        assert_eq!(levels, BTreeMap::from(expected));
        assert!(super::levels(b"no descriptor set").is_err());
    }
}
