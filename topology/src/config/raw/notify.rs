//! `[[notify]]` as it is written.

use std::ops::Range;

use super::{Maybe, Needed};
use crate::config::read::{Field, OneOrMany, Reader};
use crate::config::reference as section;

#[derive(Debug)]
pub(in crate::config) struct RawNotify<'d> {
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) name: Needed<&'d str>,
    pub(in crate::config) webhook: Maybe<RawWebhook<'d>>,
    pub(in crate::config) email: Maybe<RawEmail<'d>>,
    pub(in crate::config) events: Field<OneOrMany<&'d str>>,
    pub(in crate::config) sites: Field<OneOrMany<&'d str>>,
    pub(in crate::config) per_minute: Field<i128>,
    pub(in crate::config) tries: Field<i128>,
}

#[derive(Debug)]
pub(in crate::config) struct RawWebhook<'d> {
    pub(in crate::config) url: Needed<&'d str>,
    pub(in crate::config) secret_file: Needed<&'d str>,
}

#[derive(Debug)]
pub(in crate::config) struct RawEmail<'d> {
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) server: Needed<&'d str>,
    pub(in crate::config) tls: Field<&'d str>,
    pub(in crate::config) ca_file: Field<&'d str>,
    pub(in crate::config) user: Field<&'d str>,
    pub(in crate::config) password_file: Field<&'d str>,
    pub(in crate::config) from: Needed<&'d str>,
    pub(in crate::config) to: Needed<OneOrMany<&'d str>>,
}

impl<'d> RawNotify<'d> {
    pub(super) fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            span: table.span(),
            name: table.need("name"),
            webhook: table.table("webhook", &section::WEBHOOK, |table| RawWebhook {
                url: table.need("url"),
                secret_file: table.need("secret_file"),
            }),
            email: table.table("email", &section::EMAIL, |table| RawEmail {
                span: table.span(),
                server: table.need("server"),
                tls: table.get("tls"),
                ca_file: table.get("ca_file"),
                user: table.get("user"),
                password_file: table.get("password_file"),
                from: table.need("from"),
                to: table.need("to"),
            }),
            events: table.get("events"),
            sites: table.get("sites"),
            per_minute: table.get("per_minute"),
            tries: table.get("tries"),
        }
    }
}
