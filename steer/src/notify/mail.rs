//! An event as a mail that people read.

use steer_rpc::outbox::{Letter, Mail};

use super::Payload;

/// Of a row as [`Payload::json`] wrote it.
pub(super) fn compose(letter: &Letter) -> Result<Mail, String> {
    let payload: Payload = serde_json::from_slice(&letter.payload)
        .map_err(|error| format!("it is none of this steer's events: {error}"))?;
    let Payload {
        id,
        fleet,
        site,
        snapshot,
        at,
        kind,
        what,
        subject,
        from,
        to,
        cause,
        text,
        endpoint,
        wish,
    } = payload;
    let mut lines = vec![text.clone(), String::new()];
    let mut line = |name: &str, value: &str| lines.push(format!("{:<9}{value}", format!("{name}:")));
    line("what", &format!("{kind} {what}"));
    line("subject", &subject);
    if from != to {
        line("change", &format!("{from} -> {to}"));
    }
    if let Some(cause) = cause {
        line("cause", &cause);
    }
    if let Some(endpoint) = endpoint {
        line("service", &endpoint.service);
    }
    if let Some(wish) = wish {
        line("by", &wish.author);
        line("since", &format!("{:.0}", wish.since));
        let until = wish.until.map(|until| format!("{until:.0}"));
        line("until", until.as_deref().unwrap_or("it is ended"));
    }
    line("at", &format!("{at:.3}"));
    let site = site.map(|site| format!(", site {site}")).unwrap_or_default();
    line("told by", &format!("fleet {fleet}{site}, snapshot {snapshot}"));
    line("id", &id);
    lines.push(String::new());
    Ok(Mail {
        subject: format!("[steer {fleet}] {text}"),
        body: lines.join("\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::payload::{EndpointPart, WishPart};

    fn letter(payload: &Payload) -> Letter {
        Letter {
            id: payload.id.clone(),
            subject: "steer.verdict".to_owned(),
            partition: payload.subject.clone(),
            payload: payload.json().into(),
        }
    }

    fn down() -> Payload {
        Payload {
            from: "up".to_owned(),
            to: "down".to_owned(),
            kind: "verdict".to_owned(),
            what: "changed".to_owned(),
            subject: "web/198.51.100.10:443@fra".to_owned(),
            cause: Some("connection refused".to_owned()),
            text: "fra: web down at 198.51.100.10:443 (connection refused)".to_owned(),
            at: "2026-01-01T14:00:00.125Z".parse().unwrap(),
            endpoint: Some(EndpointPart {
                pool: "web".to_owned(),
                address: "198.51.100.10:443".to_owned(),
                endpoint_site: Some("fra".to_owned()),
                service: "out".to_owned(),
            }),
            ..Payload::test("nrt-00-7", "example", Some("nrt"), "noc", 12)
        }
    }

    #[test]
    fn a_mail_says_what_happened_in_its_subject_and_the_rest_below() {
        let mail = compose(&letter(&down())).unwrap();
        assert_eq!(
            mail.subject,
            "[steer example] fra: web down at 198.51.100.10:443 (connection refused)"
        );
        assert_eq!(
            mail.body,
            "fra: web down at 198.51.100.10:443 (connection refused)\n\
             \n\
             what:    verdict changed\n\
             subject: web/198.51.100.10:443@fra\n\
             change:  up -> down\n\
             cause:   connection refused\n\
             service: out\n\
             at:      2026-01-01T14:00:00.125Z\n\
             told by: fleet example, site nrt, snapshot 12\n\
             id:      nrt-00-7\n"
        );
    }

    #[test]
    fn a_drain_says_who_and_until_when() {
        let drain = Payload {
            kind: "drain".to_owned(),
            what: "begun".to_owned(),
            endpoint: None,
            wish: Some(WishPart {
                author: "ana".to_owned(),
                reason: "kernel update".to_owned(),
                since: "2026-01-01T14:00:00Z".parse().unwrap(),
                until: None,
            }),
            ..down()
        };
        let body = compose(&letter(&drain)).unwrap().body;
        for part in [
            "by:      ana\n",
            "until:   it is ended\n",
            "what:    drain begun\n",
        ] {
            assert!(body.contains(part), "{body}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let mut odd = letter(&down());
        odd.payload = b"{}".to_vec().into();
        assert!(compose(&odd).unwrap_err().contains("none of this steer's events"));
    }
}
