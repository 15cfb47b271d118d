//! Key files, and what the kernel is given; what it does on the wire is tested over loopback in `speaker/tests`.

use super::*;

fn key_of(content: &[u8]) -> Result<Md5Key, KeyError> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("peer.md5");
    fs::write(&path, content).expect("written");
    Md5Key::read(&path)
}

#[test]
fn white_space_around_a_key_does_not_count() {
    let key = key_of(b" \tse cret\r\n\n").expect("a key");
    assert_eq!(&*key.0, b"se cret");
}

#[test]
fn a_key_has_1_to_80_octets_and_the_error_names_the_file() {
    assert!(key_of(&[b'x'; 80]).is_ok());
    for content in [&b"\n"[..], &[b'x'; 81][..]] {
        let error = key_of(content).expect_err("no key").to_string();
        assert!(
            error.contains("peer.md5") && error.contains("want 1 to 80"),
            "{error}"
        );
    }
    let error = Md5Key::read(Path::new("/nowhere/peer.md5"))
        .expect_err("no file")
        .to_string();
    assert!(error.contains("/nowhere/peer.md5"), "{error}");
}

#[test]
fn a_key_is_never_shown() {
    let key = key_of(b"sesame").expect("a key");
    let shown = format!("{key:?}");
    assert!(!shown.contains("sesame") && !shown.contains("115"), "{shown}");
}

#[test]
fn a_key_is_laid_out_as_the_kernel_wants_it() {
    let key = key_of(b"sesame").expect("a key");
    let v4 = key.request("192.0.2.1".parse().expect("address"));
    assert_eq!(v4[..8], [2, 0, 0, 0, 192, 0, 2, 1]);
    assert_eq!(v4[128..144], *b"\0\0\x06\0\0\0\0\0sesame\0\0");
    let v6 = key.request("2001:db8::1".parse().expect("address"));
    assert_eq!(v6[..10], [10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x01]);
}

fn key(algorithm: TcpAoAlgorithm) -> AoKey {
    AoKey {
        secret: (*b"secret").into(),
        send_id: 7,
        receive_id: 9,
        algorithm,
    }
}

#[test]
fn a_tcp_ao_request_has_the_layout_of_the_kernel() {
    let request = key(TcpAoAlgorithm::HmacSha1).request("192.0.2.1".parse().unwrap());
    assert_eq!(request[..2], (libc::AF_INET as u16).to_ne_bytes());
    assert_eq!(request[4..8], [192, 0, 2, 1]);
    assert_eq!(request[128..139], *b"hmac(sha1)\0");
    assert_eq!(
        request[192..208],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 7, 9, 12, 0, 6]
    );
    assert_eq!(request[208..215], *b"secret\0");
    let request = key(TcpAoAlgorithm::Aes128Cmac).request("2001:db8::1".parse().unwrap());
    assert_eq!(request[..2], (libc::AF_INET6 as u16).to_ne_bytes());
    assert_eq!(request[8..12], [0x20, 0x01, 0x0d, 0xb8]);
    assert_eq!(request[128..141], *b"cmac(aes128)\0");
    assert_eq!(request[202], 128);
}

#[test]
fn a_secret_is_in_no_output() {
    let shown = format!("{:?}", Key::Ao(key(TcpAoAlgorithm::HmacSha1)));
    assert!(shown.contains("send_id: 7") && !shown.contains("115"), "{shown}");
}
