//! Where a channel leads.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use steer_rpc::outbox::{Email, Letter, Sink, SinkError, Webhook};
use steer_topology::{Fault, Faults, Fleet, HookUrl, Mailing, Notify, NotifyTo};

use super::mail::compose;

/// How long a webhook may take.
const HOOK_WAIT: Duration = Duration::from_secs(10);

/// The sink of a channel. What it needs is read when it is used first, and again where it has changed.
pub(crate) enum Outlet {
    Webhook(Box<Hook>),
    Email(Box<Email>),
    /// Its files were right when the configuration was checked, and were not any more; it is tried again with each letter.
    Unready(Box<Mailing>),
}

/// A webhook whose secret may change.
pub(crate) struct Hook {
    url: HookUrl,
    secret_file: PathBuf,
    current: Mutex<Option<(Stamp, Webhook)>>,
}

/// A file by its length and time stamp.
type Stamp = Option<(u64, SystemTime)>;

impl Outlet {
    pub(super) fn new(to: &NotifyTo) -> Self {
        match to {
            NotifyTo::Webhook { url, secret_file } => Self::Webhook(Box::new(Hook {
                url: url.clone(),
                secret_file: secret_file.clone(),
                current: Mutex::default(),
            })),
            NotifyTo::Email(mailing) => match Email::new((**mailing).clone(), Arc::new(compose)) {
                Ok(email) => Self::Email(Box::new(email)),
                Err(_) => Self::Unready(mailing.clone()),
            },
        }
    }
}

impl Sink for Outlet {
    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        match self {
            Self::Webhook(hook) => match hook.ready() {
                Ok(webhook) => webhook.tell(letter).await,
                Err(why) => Err(SinkError::Away(why)),
            },
            Self::Email(email) => email.tell(letter).await,
            Self::Unready(mailing) => match Email::new((**mailing).clone(), Arc::new(compose)) {
                Ok(email) => email.tell(letter).await,
                Err(error) => Err(SinkError::Away(error.to_string())),
            },
        }
    }
}

impl Hook {
    /// A file of some octets, which is read when its stamp changes: quicker than another thread.
    fn ready(&self) -> Result<Webhook, String> {
        let metadata = fs::metadata(&self.secret_file).ok();
        let stamp = metadata.and_then(|file| Some((file.len(), file.modified().ok()?)));
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, webhook)) = current.as_ref().filter(|(read, _)| *read == stamp) {
            return Ok(webhook.clone());
        }
        let webhook = Webhook::new(&self.url.0, &self.secret_file, HOOK_WAIT)
            .map_err(|error| error.to_string())?
            .content_type("application/json");
        *current = Some((stamp, webhook.clone()));
        Ok(webhook)
    }
}

/// Whether every channel could be used: what is in its files, which a check of the configuration alone does not see.
///
/// # Errors
/// A fault for each that could not.
pub(crate) fn check(fleet: &Fleet) -> Result<(), Faults> {
    let faults: Vec<_> = fleet.notify.iter().filter_map(fault).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Faults(faults))
}

fn fault(channel: &Notify) -> Option<Fault> {
    let name = &channel.name;
    match &channel.to {
        NotifyTo::Webhook { url, secret_file } => {
            let error = Webhook::new(&url.0, secret_file, HOOK_WAIT).err()?;
            let message = format!("[[notify]] {name}: {error}");
            Some(Fault::of_file(
                secret_file,
                message,
                "correct `webhook` of it, or the file",
            ))
        }
        NotifyTo::Email(mailing) => {
            let error = Email::new((**mailing).clone(), Arc::new(compose)).err()?;
            let file = mailing
                .ca_file
                .as_ref()
                .or(mailing.user.as_ref().map(|(_, file)| file));
            let message = format!("[[notify]] {name}: {error}");
            let place = file.cloned().unwrap_or_default();
            Some(Fault::of_file(
                &place,
                message,
                "correct `email` of it, or the file",
            ))
        }
    }
}
