//! `[[notify]]`

use super::{Key, REQUIRED, Section};

pub(in crate::config) static NOTIFY: Section = Section {
    title: "[[notify]]",
    written: "[[notify]]",
    about: "A channel by which steer tells others what happens: verdicts, refusals of the guard, drains, forced verdicts and \
            routes, at least once each and in order per subject. What it tells, and what becomes of what cannot be told, is \
            in [notify.md](notify.md). May change by a reload.",
    sample: "[[notify]]\nname = \"incidents\"\nwebhook = { url = \"https://incidents.example.net/hook\", secret_file = \
             \"hook.secret\" }\nevents = [\"verdict\", \"route\"]\n\n[[notify]]\nname = \"noc\"\nemail = { server = \
             \"mail.example.com\", from = \"steer@example.com\", to = [\"noc@example.com\"] }\nsites = [\"fra\"]\nper_minute = 20\n",
    keys: &[
        Key {
            name: "name",
            value: "string",
            example: "\"noc\"",
            default: REQUIRED,
            range: "letters, digits, '-', '_' and '.'; each channel once",
            about: "Names the channel for `steer notify`, in metrics, and for what waits for it over a restart.",
            cost: "Another name is another channel: what waits for the old one is dropped, and the log says how much.",
            relation: "",
        },
        Key {
            name: "webhook",
            value: "table",
            example: "{ url = \"https://incidents.example.net/hook\", secret_file = \"hook.secret\" }",
            default: "absent",
            range: "see [`[[notify]] webhook`](#notify-webhook)",
            about: "Each event is an HTTP POST.",
            cost: "",
            relation: "Either this or `email`.",
        },
        Key {
            name: "email",
            value: "table",
            example: "{ server = \"mail.example.com\", from = \"steer@example.com\", to = [\"noc@example.com\"] }",
            default: "absent",
            range: "see [`[[notify]] email`](#notify-email)",
            about: "Each event is a mail.",
            cost: "",
            relation: "Either this or `webhook`.",
        },
        Key {
            name: "events",
            value: "string or list of strings",
            example: "[\"verdict\", \"route\"]",
            default: "all of them",
            range: "`verdict`, `guard`, `drain`, `force`, `route`",
            about: "What is told.",
            cost: "",
            relation: "`route` needs `[bgp]`.",
        },
        Key {
            name: "sites",
            value: "name or list of names of sites",
            example: "[\"fra\"]",
            default: "every process tells",
            range: "each a `[[site]]`",
            about: "The sites whose processes tell. Every site judges every endpoint, so without this an outage is told once \
                    by each; each names itself, and its ids are its own.",
            cost: "A site that is down tells nothing: name two or more, far from each other. Routes are told by the site that \
                   has them alone.",
            relation: "",
        },
        Key {
            name: "per_minute",
            value: "whole number",
            example: "60",
            default: "`60`",
            range: "1 to 60000",
            about: "Letters a minute at most, evenly, and a tenth of them at once. What is above it waits.",
            cost: "More tells a large outage sooner, and fills mailboxes.",
            relation: "",
        },
        Key {
            name: "tries",
            value: "whole number",
            example: "60",
            default: "`60`: about ten minutes, with waits from 1 s that double up to 20 s, each drawn between nothing and that",
            range: "1 to 10000",
            about: "A letter that has failed so often is put aside with the dead letters, and those behind it go on; \
                    `steer notify resend` sends it again. One that is refused is put aside at once. A receiver that is away \
                    costs no try.",
            cost: "More holds up what is behind a letter of the same subject for longer.",
            relation: "",
        },
    ],
};

pub(in crate::config) static WEBHOOK: Section = Section {
    title: "[[notify]] webhook",
    written: "webhook = { url = \"https://incidents.example.net/hook\", secret_file = \"hook.secret\" }",
    about: "A POST of JSON, signed as the [Standard Webhooks](https://www.standardwebhooks.com) have it. It is taken when the \
            answer is 2xx within 10 s. 429, 503 and no connection mean that nobody is there; 408, 409, 425 and other 5xx are a \
            failure; everything else, also a redirection, is a refusal.",
    sample: "[[notify]]\nname = \"incidents\"\nwebhook = { url = \"https://incidents.example.net/hook\", secret_file = \"hook.secret\" }\n",
    keys: &[
        Key {
            name: "url",
            value: "string",
            example: "\"https://incidents.example.net/hook\"",
            default: REQUIRED,
            range: "`https://` or `http://`",
            about: "Where to. It is shown in no log, since it may have a token in it.",
            cost: "With `http` anybody on the way can read what is told.",
            relation: "",
        },
        Key {
            name: "secret_file",
            value: "path",
            example: "\"hook.secret\"",
            default: REQUIRED,
            range: "must exist; `whsec_` and 24 to 64 octets in base64",
            about: "The secret by which the receiver knows that we said it. Read anew when it changes.",
            cost: "",
            relation: "",
        },
    ],
};

pub(in crate::config) static EMAIL: Section = Section {
    title: "[[notify]] email",
    written: "email = { server = \"mail.example.com\", from = \"steer@example.com\", to = [\"noc@example.com\"] }",
    about: "A mail by SMTP to a server that takes ours. An answer of 5xx to a mail is a refusal and one of 4xx a failure; no \
            connection, no TLS, 421, or credentials that are not taken mean that nobody is there.",
    sample: "[[notify]]\nname = \"noc\"\nemail = { server = \"mail.example.com:587\", user = \"steer\", password_file = \
             \"mail.password\", from = \"steer@example.com\", to = [\"noc@example.com\", \"oncall@example.com\"] }\n",
    keys: &[
        Key {
            name: "server",
            value: "string",
            example: "\"mail.example.com:587\"",
            default: REQUIRED,
            range: "`HOST` or `HOST:PORT`",
            about: "The server. Its name is looked up for each mail, and must be in its certificate.",
            cost: "",
            relation: "Without a port it is 587, 465 or 25, by `tls`.",
        },
        Key {
            name: "tls",
            value: "string",
            example: "\"starttls\"",
            default: "`\"starttls\"`",
            range: "`starttls`, `implicit`, `none`",
            about: "How the connection is protected. With `starttls` a server that does not offer it gets no mail.",
            cost: "With `none` anybody on the way can read and change the mail; fit for a relay on the same host.",
            relation: "",
        },
        Key {
            name: "ca_file",
            value: "path",
            example: "\"mail-ca.pem\"",
            default: "absent: whom the system trusts",
            range: "must exist; PEM",
            about: "Who may have signed the certificate of the server, in place of those whom the system trusts.",
            cost: "",
            relation: "Not with `tls = \"none\"`.",
        },
        Key {
            name: "user",
            value: "string",
            example: "\"steer\"",
            default: "absent: we do not say who we are",
            range: "",
            about: "Who we are to the server (AUTH PLAIN or LOGIN).",
            cost: "",
            relation: "Needs `password_file`. Not with `tls = \"none\"`.",
        },
        Key {
            name: "password_file",
            value: "path",
            example: "\"mail.password\"",
            default: "absent",
            range: "must exist",
            about: "The file with the password, which is its first line. Read for each mail.",
            cost: "",
            relation: "Needs `user`.",
        },
        Key {
            name: "from",
            value: "string",
            example: "\"steer@example.com\"",
            default: REQUIRED,
            range: "a bare mail address in ASCII",
            about: "The sender; refusals of servers further on come back to it.",
            cost: "",
            relation: "",
        },
        Key {
            name: "to",
            value: "string or list of strings",
            example: "[\"noc@example.com\"]",
            default: REQUIRED,
            range: "1 to 100 bare mail addresses in ASCII",
            about: "The recipients of every mail.",
            cost: "A mail is refused as a whole where the server refuses one of them.",
            relation: "",
        },
    ],
};
