//! The command line's side of the admin API.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::exit::Failure;

/// Longer than the server's long poll.
const ANSWER_LIMIT: Duration = Duration::from_secs(35);

/// An error as the API words it.
#[derive(Deserialize)]
struct ApiError {
    error: String,
}

/// A running steer's admin API.
pub(crate) struct AdminClient {
    base: String,
    http: reqwest::Client,
}

/// Prints what came of a wish: as it is, or as `text` words it.
pub(crate) fn told<T: DeserializeOwned>(
    json: bool,
    done: &serde_json::Value,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    if json {
        println!("{done}");
        return Ok(());
    }
    let done = T::deserialize(done).map_err(|error| Failure::runtime("the answer is no steer's", &error))?;
    println!("{}", text(&done));
    Ok(())
}

impl AdminClient {
    pub(crate) fn new(admin: SocketAddr) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .no_proxy()
            // The API is spoken without TLS: a host or container without root certificates must do.
            .tls_certs_only([])
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
        serde_json::from_str(&body).map_err(|error| self.no_steer(&error))
    }

    /// `POST` to a path, in segments, with a JSON body.
    pub(crate) async fn post(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        body: &serde_json::Value,
    ) -> Result<serde_json::Value, Failure> {
        let request = self.http.post(self.url(path, query)?).json(body);
        self.change(request).await
    }

    /// `PUT` to a path, in segments.
    pub(crate) async fn put(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<serde_json::Value, Failure> {
        self.change(self.http.put(self.url(path, query)?)).await
    }

    /// `DELETE` of a path, in segments.
    pub(crate) async fn delete(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<serde_json::Value, Failure> {
        self.change(self.http.delete(self.url(path, query)?)).await
    }

    /// `POST` to a path, in segments, for octets; the answer may take `time`.
    pub(crate) async fn octets(
        &self,
        path: &[&str],
        body: &serde_json::Value,
        time: Duration,
    ) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let request = self.http.post(self.url(path, &[])?).json(body);
        let answer = self.send(request.timeout(time + ANSWER_LIMIT)).await?;
        let headers = answer.headers().clone();
        let body = answer.bytes().await.map_err(|error| self.no_answer(&error))?;
        Ok((headers, body.to_vec()))
    }

    async fn change(&self, request: reqwest::RequestBuilder) -> Result<serde_json::Value, Failure> {
        let body = self.answer(request).await?;
        serde_json::from_str(&body).map_err(|error| self.no_steer(&error))
    }

    /// `GET path`, as it comes.
    pub(crate) async fn text(&self, path: &str, query: &[(&str, String)]) -> Result<String, Failure> {
        let path: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        self.answer(self.http.get(self.url(&path, query)?)).await
    }

    /// A path's segments may hold anything, also slashes: the target of a drain does.
    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Result<reqwest::Url, Failure> {
        let mut url = reqwest::Url::parse(&self.base)
            .map_err(|error| Failure::runtime("the admin address makes no URL", &error))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<String, Failure> {
        let answer = self.send(request).await?;
        answer.text().await.map_err(|error| self.no_answer(&error))
    }

    /// The answer, if it is none of an error.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let answer = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.text().await.map_err(|error| self.no_answer(&error))?;
        let said = serde_json::from_str::<ApiError>(&body).map(|said| said.error);
        match (status, said) {
            // What was asked for is wrong, or does not exist: the command line's fault.
            (StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND, Ok(error)) => Err(Failure::Usage(error)),
            (_, Ok(error)) => Err(Failure::Runtime(error)),
            (_, Err(_)) => Err(Failure::Runtime(format!(
                "{} answered {status}: {body}",
                self.base
            ))),
        }
    }

    fn no_steer(&self, error: &serde_json::Error) -> Failure {
        Failure::Runtime(format!(
            "{} answered something that is no steer's: {error}",
            self.base
        ))
    }

    fn no_answer(&self, error: &reqwest::Error) -> Failure {
        // The layers above the cause only say that it failed.
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Failure::Runtime(format!(
            "no steer answers at {}: {cause}; is it running, with `[admin]` in its configuration? \
             another address: --admin",
            self.base
        ))
    }
}

/// Whether what is printed on stdout may be coloured.
pub(crate) fn color() -> bool {
    use std::io::IsTerminal;
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
