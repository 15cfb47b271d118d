//! `[[bgp.peer]] tcp_ao`

use toml::Spanned;

use crate::config::check::context::Context;
use crate::config::check::values;
use crate::config::raw::RawTcpAo;
use crate::config::read::Field;
use crate::config::sink::Reported;
use crate::{TcpAo, TcpAoAlgorithm};

/// One connection has one kind of signature: the kernel refuses both on one socket.
pub(super) fn key(
    cx: &Context<'_, '_>,
    password_file: &Field<&str>,
    raw: RawTcpAo<'_>,
) -> Result<TcpAo, Reported> {
    let RawTcpAo {
        span,
        key_file,
        send_id,
        receive_id,
        algorithm,
    } = raw;
    let sink = cx.sink;
    let key_file = key_file.and_then(|written| cx.file("key_file", &written));
    let send_id = values::int(sink, "send_id", send_id, 0..=u8::MAX, 1);
    let receive_id = values::int(sink, "receive_id", receive_id, 0..=u8::MAX, 1);
    let algorithm = algorithm.and_then(|written| match written {
        Some(written) => algorithm_of(cx, &written),
        None => Ok(TcpAoAlgorithm::Aes128Cmac),
    });
    if matches!(password_file, Ok(Some(_))) {
        return Err(sink.conflict(
            span,
            "`tcp_ao` and `password_file` are two signatures for one connection",
            "keep `tcp_ao` where both ends have it (RFC 5925), else `password_file`",
        ));
    }
    Ok(TcpAo {
        key_file: key_file?,
        send_id: send_id?,
        receive_id: receive_id?,
        algorithm: algorithm?,
    })
}

fn algorithm_of(cx: &Context<'_, '_>, written: &Spanned<&str>) -> Result<TcpAoAlgorithm, Reported> {
    match *written.get_ref() {
        "hmac-sha-1-96" => Ok(TcpAoAlgorithm::HmacSha1),
        "aes-128-cmac-96" => Ok(TcpAoAlgorithm::Aes128Cmac),
        other => Err(cx.sink.fault(
            written.span(),
            format!("`algorithm` is {other:?}"),
            "write \"aes-128-cmac-96\" or \"hmac-sha-1-96\" (RFC 5926)",
        )),
    }
}
