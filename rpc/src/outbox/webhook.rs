//! An HTTP POST per row as a sink, signed as the Standard Webhooks have it: `webhook-id`, `webhook-timestamp`, and
//! `webhook-signature: v1,BASE64(HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"))`.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64;
use reqwest::{Client, StatusCode, Url};
use ring::hmac::{HMAC_SHA256, Key, sign};

use super::{Letter, Sink, SinkError};

/// The secret of a webhook has so many octets.
const SECRET: std::ops::RangeInclusive<usize> = 24..=64;

/// As the Standard Webhooks write a secret.
const PREFIX: &str = "whsec_";

/// Octets of an answer that are looked at, for its words.
const ANSWER_MAX: usize = 200;

/// A webhook.
#[derive(Clone)]
pub struct Webhook {
    client: Client,
    url: Url,
    key: Key,
    content_type: &'static str,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may have a token in it.
        f.debug_struct("Webhook")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// What is wrong with a webhook.
#[derive(Debug, thiserror::Error)]
pub enum InvalidWebhook {
    /// No URL, or one of another kind. What it was is not said: it may have a token in it.
    #[error("the webhook's url: {0}; \"https://HOST/PATH\" is wanted")]
    Url(String),
    /// The file of the secret.
    #[error("{file}: {what}")]
    Secret {
        /// Which.
        file: String,
        /// What, and what would be right; never what is in it.
        what: String,
    },
    /// The HTTP client.
    #[error("the webhook's client: {0}")]
    Client(String),
}

impl Webhook {
    /// Posts to `url`, within `wait` each; the secret is in a file, as `whsec_` and 24 to 64 octets in base64.
    ///
    /// # Errors
    ///
    /// See [`InvalidWebhook`].
    pub fn new(url: &str, secret_file: &Path, wait: Duration) -> Result<Self, InvalidWebhook> {
        let url: Url = url
            .parse()
            .map_err(|error| InvalidWebhook::Url(format!("{error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidWebhook::Url(
                "its scheme is neither http nor https".to_owned(),
            ));
        }
        // A process may have one already; then that is used.
        _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(wait)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("steer-rpc/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| InvalidWebhook::Client(error.to_string()))?;
        Ok(Self {
            client,
            url,
            key: read_secret(secret_file)?,
            content_type: "application/octet-stream",
        })
    }

    /// What its rows are, such as `application/json`.
    #[must_use]
    pub fn content_type(self, content_type: &'static str) -> Self {
        Self { content_type, ..self }
    }

    async fn post(&self, letter: &Letter, at: u64) -> Result<(), SinkError> {
        let request = self
            .client
            .post(self.url.clone())
            .header("webhook-id", &letter.id)
            .header("webhook-timestamp", at)
            .header(
                "webhook-signature",
                signature(&self.key, &letter.id, at, &letter.payload),
            )
            .header("idempotency-key", &letter.id)
            .header("steer-subject", &letter.subject)
            .header("steer-partition", &letter.partition)
            .header("content-type", self.content_type)
            .body(letter.payload.clone());
        let response = request.send().await.map_err(|error| lost(&error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let words = response.bytes().await.unwrap_or_default();
        let words = String::from_utf8_lossy(&words[..words.len().min(ANSWER_MAX)]).into_owned();
        Err(of(status, &words))
    }
}

/// An error without an answer.
fn lost(error: &reqwest::Error) -> SinkError {
    let words = chain(error);
    if error.is_builder() {
        SinkError::Refused(words)
    } else if error.is_connect() {
        SinkError::Away(words)
    } else {
        SinkError::Failed(words)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What an answer means. 5xx, and those of 4xx that say "not now", may be another word next time.
fn of(status: StatusCode, words: &str) -> SinkError {
    let words = format!("{status}: {words}");
    match status.as_u16() {
        429 | 503 => SinkError::Away(words),
        408 | 409 | 425 | 500..=599 => SinkError::Failed(words),
        _ => SinkError::Refused(words),
    }
}

impl Sink for Webhook {
    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.post(letter, now.unwrap_or_default().as_secs()).await
    }
}

fn read_secret(file: &Path) -> Result<Key, InvalidWebhook> {
    let wrong = |what: String| InvalidWebhook::Secret {
        file: file.display().to_string(),
        what,
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    key_of(text.trim()).map_err(wrong)
}

fn key_of(text: &str) -> Result<Key, String> {
    let wanted = format!(
        "{PREFIX} and {} to {} octets in base64 are wanted",
        SECRET.start(),
        SECRET.end()
    );
    let text = text
        .strip_prefix(PREFIX)
        .ok_or_else(|| format!("the secret does not begin with {PREFIX}; {wanted}"))?;
    let octets = BASE64
        .decode(text.as_bytes())
        .map_err(|_| format!("the secret is not in base64; {wanted}"))?;
    if !SECRET.contains(&octets.len()) {
        return Err(format!("the secret has {} octets; {wanted}", octets.len()));
    }
    Ok(Key::new(HMAC_SHA256, &octets))
}

fn signature(key: &Key, id: &str, at: u64, body: &[u8]) -> String {
    let signed = [id.as_bytes(), b".", at.to_string().as_bytes(), b".", body].concat();
    format!("v1,{}", BASE64.encode(sign(key, &signed).as_ref()))
}

/// Whether a signature is right, for whoever receives; its age is to be looked at as well.
///
/// # Errors
///
/// When the secret is none: what would be right.
pub fn verify(secret: &str, id: &str, timestamp: u64, body: &[u8], header: &str) -> Result<bool, String> {
    let key = key_of(secret.trim())?;
    let signed = [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body].concat();
    let is_right = |one: &str| {
        let tag = one
            .strip_prefix("v1,")
            .and_then(|tag| BASE64.decode(tag.as_bytes()).ok());
        tag.is_some_and(|tag| ring::hmac::verify(&key, &signed, &tag).is_ok())
    };
    // Several with spaces between them, while a secret is changed.
    Ok(header.split(' ').any(is_right))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SECRET_TEXT: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        let key = key_of(SECRET_TEXT).unwrap();
        assert_eq!(signature(&key, ID, 1_614_265_330, BODY), SIGNATURE);
        let check = |body: &[u8], header: &str| verify(SECRET_TEXT, ID, 1_614_265_330, body, header).unwrap();
        assert!(check(BODY, SIGNATURE));
        assert!(check(BODY, &format!("v1,AAAA {SIGNATURE}")));
        assert!(!check(b"other", SIGNATURE));
        assert!(!check(BODY, "v1,"));
        assert!(!check(BODY, ""));
    }

    #[test]
    fn a_secret_that_is_none_is_named_by_its_file_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        for (text, expected) in [
            ("hush", "does not begin with whsec_"),
            ("whsec_hush!", "not in base64"),
            ("whsec_aHVzaA==", "has 4 octets"),
        ] {
            std::fs::write(&file, text).unwrap();
            let fault = Webhook::new("https://127.0.0.1/", &file, Duration::from_secs(1))
                .unwrap_err()
                .to_string();
            assert!(fault.contains(expected) && fault.contains("secret"), "{fault}");
            assert!(!fault.contains("hush") && !fault.contains("aHVzaA"), "{fault}");
        }
        let fault = Webhook::new("ftp://a/token", &file, Duration::from_secs(1))
            .unwrap_err()
            .to_string();
        assert!(
            fault.contains("neither http nor https") && !fault.contains("token"),
            "{fault}"
        );
    }

    #[test]
    fn an_answer_that_may_change_is_told_from_one_that_will_not() {
        let said = |status| of(StatusCode::from_u16(status).unwrap(), "");
        assert!(matches!(said(503), SinkError::Away(_)));
        assert!(matches!(said(429), SinkError::Away(_)));
        assert!(matches!(said(500), SinkError::Failed(_)));
        assert!(matches!(said(504), SinkError::Failed(_)));
        assert!(matches!(said(409), SinkError::Failed(_)));
        assert!(matches!(said(400), SinkError::Refused(_)));
        assert!(matches!(said(301), SinkError::Refused(_)));
    }
}
