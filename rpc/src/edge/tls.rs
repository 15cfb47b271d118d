//! TLS at both ends: what is shown, whom it is shown to, and files that change.
//!
//! Each file may hold several roots, and there may be several files: a new root is put beside the old one, certificates
//! are changed, and the old one is taken away. Nothing that was good is ever replaced by what cannot be read.

mod renew;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::config::{BackendTls, Identity, ListenTls};

pub(super) use renew::Current;

/// RFC 9113 §3.3.
const H2: &[u8] = b"h2";

/// The listener's side, kept fresh.
pub(super) fn listener(tls: ListenTls) -> io::Result<Arc<Current<ServerConfig>>> {
    let mut files = vec![tls.identity.certificate.clone(), tls.identity.key.clone()];
    if let Some(clients) = &tls.clients {
        files.extend(clients.roots.iter().cloned());
    }
    Current::read(files, Box::new(move || server_config(&tls)))
}

/// The side to the backends of a pool, kept fresh.
pub(super) fn backends(tls: &BackendTls) -> io::Result<Arc<Current<ClientConfig>>> {
    let mut files = tls.roots.clone();
    if let Some(identity) = &tls.identity {
        files.extend([identity.certificate.clone(), identity.key.clone()]);
    }
    let tls = tls.clone();
    Current::read(files, Box::new(move || client_config(&tls)))
}

/// The name that a backend's certificate must have.
pub(super) fn name_of(tls: &BackendTls, address: SocketAddr) -> ServerName<'static> {
    let own = || ServerName::IpAddress(address.ip().into());
    tls.server_name.clone().unwrap_or_else(own)
}

fn server_config(tls: &ListenTls) -> io::Result<ServerConfig> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match &tls.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(&clients.roots)?, provider);
            let verifier = if clients.required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            builder.with_client_cert_verifier(verifier.build().map_err(io::Error::other)?)
        }
    };
    let (chain, key) = identity(&tls.identity)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| fault(&tls.identity.key, &error))?;
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(config)
}

fn client_config(tls: &BackendTls) -> io::Result<ClientConfig> {
    let provider = provider();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(&tls.roots)?, provider.clone())
        .build()
        .map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_webpki_verifier(verifier);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let (chain, key) = identity(own)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| fault(&own.key, &error))?
        }
    };
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn roots(files: &[PathBuf]) -> io::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for file in files {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| fault(file, &error))?;
        }
    }
    Ok(Arc::new(roots))
}

fn identity(own: &Identity) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(&own.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&own.key).map_err(|error| fault(&own.key, &error))?;
    Ok((chain, key))
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault(file, &error))?;
    if found.is_empty() {
        return Err(fault(file, &"no certificate in PEM form in it"));
    }
    Ok(found)
}

fn fault(file: &Path, error: &dyn fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", file.display()))
}

/// The name that a client's certificate gives it: its first URI (SPIFFE), else its first DNS name, else its subject.
pub(super) fn client_name(certificate: &CertificateDer<'_>) -> Option<String> {
    use x509_parser::extensions::GeneralName;

    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names
        .map(|names| &names.value.general_names[..])
        .unwrap_or_default();
    let uri = names.iter().find_map(|name| {
        let GeneralName::URI(uri) = name else { return None };
        Some(*uri)
    });
    let dns = names.iter().find_map(|name| {
        let GeneralName::DNSName(name) = name else {
            return None;
        };
        Some(*name)
    });
    let name = uri.or(dns).map(str::to_owned);
    name.or_else(|| Some(parsed.subject().to_string()))
}
