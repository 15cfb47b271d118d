//! TLS as it is written: files, relative to the folder of `edge.toml`.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::{InvalidEdge, read};

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// TLS where the edge listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// What the edge shows.
    pub identity: Identity,
    /// Who may come; absent: nobody is asked for a certificate.
    pub clients: Option<ClientRoots>,
}

/// Whose certificates clients may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRoots {
    /// Roots in PEM, any number in each file.
    pub roots: Vec<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub required: bool,
}

/// TLS to the backends of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    /// Roots in PEM, any number in each file.
    pub roots: Vec<PathBuf>,
    /// The name that their certificates must have; absent: the address.
    pub server_name: Option<ServerName<'static>>,
    /// What the edge shows them; absent: nothing.
    pub identity: Option<Identity>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListenTls {
    certificate_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    client_roots_files: Vec<PathBuf>,
    client_certificates: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBackendTls {
    #[serde(default)]
    roots_files: Vec<PathBuf>,
    server_name: Option<String>,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

pub(super) fn check_listener(raw: RawListenTls, folder: &Path) -> Result<ListenTls, InvalidEdge> {
    let RawListenTls {
        certificate_file,
        key_file,
        client_roots_files,
        client_certificates,
    } = raw;
    let wrong = |what: String| InvalidEdge::Place {
        place: "tls".to_owned(),
        what,
    };
    let required = match client_certificates.as_deref() {
        None => None,
        Some("required") => Some(true),
        Some("asked") => Some(false),
        Some(other) => {
            return Err(wrong(format!(
                "client_certificates is {other:?}; \"asked\" and \"required\" are possible"
            )));
        }
    };
    let clients = match (required, client_roots_files.is_empty()) {
        (None, true) => None,
        (Some(_), true) => {
            return Err(wrong(
                "client_certificates without client_roots_files: nobody's certificate would do".to_owned(),
            ));
        }
        // Who names roots wants them looked at.
        (required, false) => Some(ClientRoots {
            roots: found_all(&client_roots_files, folder)?,
            required: required.unwrap_or(true),
        }),
    };
    Ok(ListenTls {
        identity: Identity {
            certificate: found(&certificate_file, folder)?,
            key: found(&key_file, folder)?,
        },
        clients,
    })
}

pub(super) fn check_backends(
    raw: RawBackendTls,
    place: &str,
    folder: &Path,
) -> Result<BackendTls, InvalidEdge> {
    let RawBackendTls {
        roots_files,
        server_name,
        certificate_file,
        key_file,
    } = raw;
    let wrong = |what: String| InvalidEdge::Place {
        place: format!("{place} tls"),
        what,
    };
    if roots_files.is_empty() {
        return Err(wrong(
            "roots_files is empty; name the roots that sign its backends".to_owned(),
        ));
    }
    let server_name = server_name.map(|name| {
        ServerName::try_from(name.clone()).map_err(|_| {
            wrong(format!(
                "server_name is {name:?}; a DNS name or an address is wanted"
            ))
        })
    });
    let identity = match (certificate_file, key_file) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(Identity {
            certificate: found(&certificate, folder)?,
            key: found(&key, folder)?,
        }),
        (Some(_), None) | (None, Some(_)) => {
            return Err(wrong(
                "certificate_file and key_file belong together; one is missing".to_owned(),
            ));
        }
    };
    Ok(BackendTls {
        roots: found_all(&roots_files, folder)?,
        server_name: server_name.transpose()?,
        identity,
    })
}

fn found_all(files: &[PathBuf], folder: &Path) -> Result<Vec<PathBuf>, InvalidEdge> {
    files.iter().map(|file| found(file, folder)).collect()
}

/// The file, once it is known that it can be read; what is in it is looked at when the edge is bound.
fn found(file: &Path, folder: &Path) -> Result<PathBuf, InvalidEdge> {
    let file = folder.join(file);
    read(&file)?;
    Ok(file)
}
