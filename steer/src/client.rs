//! The command line's side of the admin API.

use std::net::SocketAddr;
use std::time::Duration;

use crate::exit::Failure;

/// Longer than the server's long poll.
const ANSWER_LIMIT: Duration = Duration::from_secs(35);

/// A running steer's admin API.
pub(crate) struct AdminClient {
    base: String,
    http: reqwest::Client,
}

impl AdminClient {
    pub(crate) fn new(admin: SocketAddr) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_LIMIT)
            .build()
            .map_err(|error| Failure::runtime("cannot make an HTTP client", &error))?;
        Ok(Self {
            base: format!("http://{admin}"),
            http,
        })
    }

    /// `GET path`, as JSON.
    pub(crate) async fn json(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<serde_json::Value, Failure> {
        let body = self.text(path, query).await?;
        serde_json::from_str(&body).map_err(|error| {
            Failure::Runtime(format!(
                "{} answered something that is no steer's: {error}",
                self.base
            ))
        })
    }

    /// `GET path`, as it comes.
    pub(crate) async fn text(&self, path: &str, query: &[(&str, String)]) -> Result<String, Failure> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base))
            .map_err(|error| Failure::runtime("the admin address makes no URL", &error))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self
            .http
            .get(url)
            .send()
            .await
            .map_err(|error| self.no_answer(&error))?;
        let status = answer.status();
        let body = answer.text().await.map_err(|error| self.no_answer(&error))?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(Failure::Runtime(format!(
                "{} answered {status}: {body}",
                self.base
            )))
        }
    }

    fn no_answer(&self, error: &reqwest::Error) -> Failure {
        let doing = format!(
            "no steer answers at {} (is it running with `[admin]` in its configuration? another address: --admin)",
            self.base
        );
        Failure::runtime(&doing, error)
    }
}

/// Whether what is printed on stdout may be coloured.
pub(crate) fn color() -> bool {
    use std::io::IsTerminal;
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
