//! The shape of `steer.toml` as it is written: types are right, nothing else is known yet.

mod notify;

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;

use super::read::{DurationOrAuto, Field, List, Map, Number, OneOrMany, Reader, TextOrInt};
use super::reference as section;
use super::sink::{Reported, Sink};

pub(super) use notify::{RawEmail, RawNotify, RawWebhook};

/// A key that must be there.
pub(super) type Needed<T> = Result<Spanned<T>, Reported>;
/// A table that may be there.
pub(super) type Maybe<T> = Result<Option<T>, Reported>;

#[derive(Debug)]
pub(super) struct RawFile<'d> {
    pub(super) fleet: Maybe<RawFleet<'d>>,
    pub(super) site: List<RawSite<'d>>,
    pub(super) check: List<RawCheck<'d>>,
    pub(super) pool: List<RawPool<'d>>,
    pub(super) dns: Maybe<RawDns<'d>>,
    pub(super) zone: List<RawZone<'d>>,
    pub(super) steer: List<RawSteer<'d>>,
    pub(super) anycast: List<RawAnycast<'d>>,
    pub(super) bgp: Maybe<RawBgp<'d>>,
    pub(super) edge: Maybe<RawEdge<'d>>,
    pub(super) admin: Maybe<RawAdmin<'d>>,
    pub(super) notify: List<RawNotify<'d>>,
}

#[derive(Debug)]
pub(super) struct RawFleet<'d> {
    pub(super) name: Field<&'d str>,
    pub(super) geo: Maybe<RawGeo<'d>>,
    pub(super) latency: Field<&'d str>,
    pub(super) guard: Maybe<RawGuard>,
    pub(super) overflow: Maybe<RawOverflow>,
    pub(super) gossip: Maybe<RawGossip<'d>>,
    pub(super) store: Field<&'d str>,
    pub(super) etcd: Maybe<RawEtcd<'d>>,
}

#[derive(Debug)]
pub(super) struct RawEtcd<'d> {
    pub(super) span: Range<usize>,
    pub(super) cache: Needed<&'d str>,
    pub(super) prefix: Field<&'d str>,
    pub(super) ca_file: Field<&'d str>,
    pub(super) cert_file: Field<&'d str>,
    pub(super) key_file: Field<&'d str>,
    pub(super) user: Field<&'d str>,
    pub(super) password_file: Field<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawGeo<'d> {
    pub(super) span: Range<usize>,
    pub(super) country: Field<OneOrMany<&'d str>>,
    pub(super) city: Field<OneOrMany<&'d str>>,
    pub(super) asn: Field<OneOrMany<&'d str>>,
}

#[derive(Debug)]
pub(super) struct RawGuard {
    pub(super) keep_sites: Field<i128>,
    pub(super) max_withdrawn: Field<i128>,
    pub(super) window: Field<Duration>,
    pub(super) panic: Field<i128>,
}

#[derive(Debug)]
pub(super) struct RawOverflow {
    pub(super) span: Range<usize>,
    pub(super) enter: Field<i128>,
    pub(super) leave: Field<i128>,
    pub(super) band: Field<i128>,
    pub(super) settle: Field<Duration>,
}

#[derive(Debug)]
pub(super) struct RawGossip<'d> {
    pub(super) span: Range<usize>,
    pub(super) port: Field<i128>,
    pub(super) key_file: Needed<&'d str>,
    pub(super) share: Field<i128>,
    pub(super) own_after: Field<Duration>,
    pub(super) staged: Field<Duration>,
    pub(super) reference: Field<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawSite<'d> {
    pub(super) name: Needed<&'d str>,
    pub(super) router_id: Field<&'d str>,
    pub(super) capacity: Field<i128>,
    pub(super) load: Field<i128>,
    pub(super) bias: Field<&'d str>,
    pub(super) gossip: Field<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawCheck<'d> {
    pub(super) name: Needed<&'d str>,
    pub(super) kind: Needed<&'d str>,
    pub(super) of_kind: RawKind<'d>,
    pub(super) interval: Field<Duration>,
    pub(super) fast_interval: Field<Duration>,
    pub(super) timeout: Field<Duration>,
    pub(super) fall: Field<i128>,
    pub(super) rise: Field<i128>,
    pub(super) forget: Field<i128>,
    pub(super) detect: Field<OneOrMany<&'d str>>,
    pub(super) combine: Field<&'d str>,
    pub(super) window: Maybe<RawWindow>,
    pub(super) phi: Maybe<RawPhi<'d>>,
    pub(super) tripwire: Field<bool>,
    pub(super) process: Field<&'d str>,
    pub(super) port: Field<i128>,
    pub(super) source: Field<OneOrMany<&'d str>>,
    pub(super) vantage_points: Field<i128>,
}

/// The keys of `[[check]]` that belong to some kinds only.
#[derive(Debug)]
pub(super) struct RawKind<'d> {
    pub(super) span: Range<usize>,
    pub(super) path: Field<&'d str>,
    pub(super) host: Field<&'d str>,
    pub(super) status: Field<OneOrMany<TextOrInt<'d>>>,
    pub(super) body: Field<&'d str>,
    pub(super) body_regex: Field<&'d str>,
    pub(super) header: Field<&'d str>,
    pub(super) value: Field<&'d str>,
    pub(super) min: Field<Number>,
    pub(super) max: Field<Number>,
    pub(super) reuse: Field<bool>,
    pub(super) tls: Field<bool>,
    pub(super) server_name: Field<&'d str>,
    pub(super) verify: Field<bool>,
    pub(super) roots: Field<&'d str>,
    pub(super) expiry_warning: Field<Duration>,
    pub(super) query: Field<&'d str>,
    pub(super) rtype: Field<&'d str>,
    pub(super) rcode: Field<&'d str>,
    pub(super) answer: Field<&'d str>,
    pub(super) service: Field<&'d str>,
    pub(super) command: Field<OneOrMany<&'d str>>,
    pub(super) lease: Field<Duration>,
    pub(super) when: Field<&'d str>,
    pub(super) peer: Field<&'d str>,
    pub(super) feeds: Field<&'d str>,
    pub(super) scale: Field<Number>,
}

#[derive(Debug)]
pub(super) struct RawWindow {
    pub(super) span: Range<usize>,
    pub(super) size: Field<i128>,
    pub(super) min_success: Field<i128>,
    pub(super) recover: Field<i128>,
    pub(super) latency: Field<Duration>,
    pub(super) quantile: Field<i128>,
}

#[derive(Debug)]
pub(super) struct RawPhi<'d> {
    pub(super) span: Range<usize>,
    pub(super) threshold: Field<i128>,
    pub(super) samples: Field<i128>,
    pub(super) model: Field<&'d str>,
    pub(super) pause: Field<Duration>,
}

#[derive(Debug)]
pub(super) struct RawOutlier {
    pub(super) interval: Field<Duration>,
    pub(super) samples: Field<i128>,
    pub(super) stdev_factor: Field<i128>,
    pub(super) failure: Field<i128>,
    pub(super) slower: Field<i128>,
    pub(super) base_ejection: Field<Duration>,
    pub(super) max_ejection: Field<Duration>,
    pub(super) max_ejected: Field<i128>,
}

#[derive(Debug)]
pub(super) struct RawPool<'d> {
    pub(super) span: Range<usize>,
    pub(super) name: Needed<&'d str>,
    pub(super) check: Field<&'d str>,
    pub(super) load: Field<&'d str>,
    pub(super) endpoints: List<RawEndpoint<'d>>,
    pub(super) needs: Field<TextOrInt<'d>>,
    pub(super) outlier: Maybe<RawOutlier>,
    pub(super) damping: Maybe<RawDamping>,
}

#[derive(Debug)]
pub(super) struct RawDamping {
    pub(super) span: Range<usize>,
    pub(super) penalty: Field<i128>,
    pub(super) half_life: Field<Duration>,
    pub(super) suppress: Field<i128>,
    pub(super) reuse: Field<i128>,
    pub(super) max: Field<Duration>,
}

#[derive(Debug)]
pub(super) struct RawEndpoint<'d> {
    pub(super) span: Range<usize>,
    pub(super) pool: Field<&'d str>,
    pub(super) site: Field<&'d str>,
    /// Must be there where `pool` is not.
    pub(super) address: Field<&'d str>,
    pub(super) probe: Field<&'d str>,
    pub(super) weight: Field<i128>,
    pub(super) tier: Field<i128>,
    pub(super) target: Field<&'d str>,
    pub(super) priority: Field<i128>,
    pub(super) text: Field<OneOrMany<&'d str>>,
}

#[derive(Debug)]
pub(super) struct RawDns<'d> {
    pub(super) listen: Field<OneOrMany<&'d str>>,
    pub(super) udp_threads: Field<i128>,
    pub(super) max_udp_payload: Field<i128>,
    pub(super) tcp_connections: Field<i128>,
    pub(super) tcp_connections_per_client: Field<i128>,
    pub(super) tcp_idle: Field<Duration>,
    pub(super) nat64: Field<OneOrMany<&'d str>>,
    pub(super) identity: Field<&'d str>,
    pub(super) version: Field<&'d str>,
    pub(super) cookies: Field<&'d str>,
    pub(super) cookie_secrets: Field<OneOrMany<&'d str>>,
    pub(super) rrl: Maybe<RawRrl>,
    pub(super) tls: Maybe<RawTls<'d>>,
}

#[derive(Debug)]
pub(super) struct RawTls<'d> {
    pub(super) span: Range<usize>,
    pub(super) listen: Field<OneOrMany<&'d str>>,
    pub(super) https: Field<OneOrMany<&'d str>>,
    pub(super) quic: Field<OneOrMany<&'d str>>,
    pub(super) certificate: Needed<&'d str>,
    pub(super) key: Needed<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawRrl {
    pub(super) rate: Field<i128>,
    pub(super) slip: Field<i128>,
    pub(super) v4_prefix: Field<i128>,
    pub(super) v6_prefix: Field<i128>,
    pub(super) table: Field<i128>,
    pub(super) log_only: Field<bool>,
}

#[derive(Debug)]
pub(super) struct RawZone<'d> {
    pub(super) name: Needed<&'d str>,
    pub(super) file: Needed<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawSteer<'d> {
    pub(super) name: Needed<&'d str>,
    pub(super) kinds: Field<OneOrMany<&'d str>>,
    pub(super) alpn: Field<OneOrMany<&'d str>>,
    pub(super) target: Field<&'d str>,
    pub(super) pool: Needed<&'d str>,
    pub(super) ttl: Field<DurationOrAuto>,
    pub(super) ttl_min: Field<Duration>,
    pub(super) ttl_max: Field<Duration>,
    pub(super) chain: Field<OneOrMany<&'d str>>,
    pub(super) country: Field<RawMap<'d>>,
    pub(super) continent: Field<RawMap<'d>>,
    pub(super) asn: Field<RawMap<'d>>,
    pub(super) cidr: Field<RawMap<'d>>,
    pub(super) if_all_down: Field<&'d str>,
}

/// From what a client is to where it is sent.
pub(super) type RawMap<'d> = Map<'d, OneOrMany<&'d str>>;

#[derive(Debug)]
pub(super) struct RawAnycast<'d> {
    pub(super) span: Range<usize>,
    pub(super) prefix: Needed<&'d str>,
    pub(super) sites: Field<OneOrMany<&'d str>>,
    pub(super) while_up: Field<OneOrMany<&'d str>>,
    pub(super) next_hop: Field<&'d str>,
    pub(super) policy: RawPolicy<'d>,
    pub(super) to: List<RawTo<'d>>,
    pub(super) rise: Field<Duration>,
    pub(super) fall: Field<Duration>,
    pub(super) hold_down: Field<Duration>,
    pub(super) flap_budget: Maybe<RawFlapBudget>,
    pub(super) bind: Maybe<RawBind<'d>>,
    pub(super) lease: Maybe<RawLease<'d>>,
    pub(super) on_drain: Field<OneOrMany<&'d str>>,
}

/// The keys that shape an announcement; they stand in three kinds of table.
#[derive(Debug)]
pub(super) struct RawPolicy<'d> {
    pub(super) prepend: Field<i128>,
    pub(super) med: Field<i128>,
    pub(super) local_pref: Field<i128>,
    pub(super) communities: Field<OneOrMany<&'d str>>,
}

#[derive(Debug)]
pub(super) struct RawTo<'d> {
    pub(super) peer: Needed<&'d str>,
    pub(super) announce: Field<bool>,
    pub(super) policy: RawPolicy<'d>,
}

#[derive(Debug)]
pub(super) struct RawFlapBudget {
    pub(super) penalty: Field<i128>,
    pub(super) half_life: Field<Duration>,
    pub(super) suppress: Field<i128>,
}

#[derive(Debug)]
pub(super) struct RawBind<'d> {
    pub(super) span: Range<usize>,
    pub(super) interface: Field<&'d str>,
    pub(super) address: Field<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawLease<'d> {
    pub(super) max: Field<Duration>,
    pub(super) on_expiry: Field<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawBgp<'d> {
    pub(super) span: Range<usize>,
    pub(super) asn: Needed<i128>,
    pub(super) router_id: Field<&'d str>,
    pub(super) listen: Field<OneOrMany<&'d str>>,
    pub(super) peer: List<RawPeer<'d>>,
    pub(super) bmp: List<RawBmp<'d>>,
    pub(super) rpki: Field<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawBmp<'d> {
    pub(super) address: Needed<&'d str>,
    pub(super) connect_retry: Field<Duration>,
}

#[derive(Debug)]
pub(super) struct RawPeer<'d> {
    pub(super) site: Field<&'d str>,
    pub(super) address: Needed<&'d str>,
    pub(super) port: Field<i128>,
    pub(super) asn: Needed<i128>,
    pub(super) source: Field<&'d str>,
    pub(super) passive: Field<bool>,
    pub(super) hold_time: Field<Duration>,
    pub(super) connect_retry: Field<Duration>,
    pub(super) interface: Field<&'d str>,
    pub(super) password_file: Field<&'d str>,
    pub(super) tcp_ao: Maybe<RawTcpAo<'d>>,
    pub(super) ttl_security: Field<i128>,
    pub(super) multihop: Field<i128>,
    pub(super) families: Field<OneOrMany<&'d str>>,
    pub(super) extended_next_hop: Field<bool>,
    pub(super) extended_messages: Field<bool>,
    pub(super) role: Field<&'d str>,
    pub(super) role_strict: Field<bool>,
    pub(super) graceful_restart: Maybe<RawGracefulRestart>,
    pub(super) max_prefixes: Field<i128>,
    pub(super) sample: Field<i128>,
    pub(super) policy: RawPolicy<'d>,
    pub(super) bfd: Maybe<RawBfd<'d>>,
}

#[derive(Debug)]
pub(super) struct RawTcpAo<'d> {
    pub(super) span: Range<usize>,
    pub(super) key_file: Needed<&'d str>,
    pub(super) send_id: Field<i128>,
    pub(super) receive_id: Field<i128>,
    pub(super) algorithm: Field<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawGracefulRestart {
    pub(super) restart_time: Field<Duration>,
    pub(super) notification: Field<bool>,
}

#[derive(Debug)]
pub(super) struct RawBfd<'d> {
    pub(super) span: Range<usize>,
    pub(super) interval: Field<Duration>,
    pub(super) multiplier: Field<i128>,
    pub(super) strict: Field<bool>,
    pub(super) auth: Field<&'d str>,
    pub(super) key_id: Field<i128>,
    pub(super) key_file: Field<&'d str>,
}

#[derive(Debug)]
pub(super) struct RawEdge<'d> {
    pub(super) file: Needed<&'d str>,
    pub(super) sites: Field<OneOrMany<&'d str>>,
}

#[derive(Debug)]
pub(super) struct RawAdmin<'d> {
    pub(super) listen: Field<&'d str>,
}

impl<'d> RawFile<'d> {
    /// Reads the whole document. Wrong types and unknown keys are in `sink` afterwards.
    pub(super) fn read(sink: &Sink<'d>, document: &'d Spanned<DeTable<'d>>) -> Self {
        let file = Reader::new(sink, &section::FILE, document.get_ref(), document.span());
        Self {
            fleet: file.table("fleet", &section::FLEET, RawFleet::read),
            site: file.tables("site", &section::SITE, RawSite::read),
            check: file.tables("check", &section::CHECK, RawCheck::read),
            pool: file.tables("pool", &section::POOL, RawPool::read),
            dns: file.table("dns", &section::DNS, RawDns::read),
            zone: file.tables("zone", &section::ZONE, |table| RawZone {
                name: table.need("name"),
                file: table.need("file"),
            }),
            steer: file.tables("steer", &section::STEER, RawSteer::read),
            anycast: file.tables("anycast", &section::ANYCAST, RawAnycast::read),
            bgp: file.table("bgp", &section::BGP, RawBgp::read),
            edge: file.table("edge", &section::EDGE, |table| RawEdge {
                file: table.need("file"),
                sites: table.get("sites"),
            }),
            admin: file.table("admin", &section::ADMIN, |table| RawAdmin {
                listen: table.get("listen"),
            }),
            notify: file.tables("notify", &section::NOTIFY, RawNotify::read),
        }
    }
}

impl<'d> RawFleet<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            name: table.get("name"),
            geo: table.table("geo", &section::GEO, |table| RawGeo {
                span: table.span(),
                country: table.get("country"),
                city: table.get("city"),
                asn: table.get("asn"),
            }),
            latency: table.get("latency"),
            guard: table.table("guard", &section::GUARD, |table| RawGuard {
                keep_sites: table.get("keep_sites"),
                max_withdrawn: table.get("max_withdrawn"),
                window: table.get("window"),
                panic: table.get("panic"),
            }),
            overflow: table.table("overflow", &section::OVERFLOW, |table| RawOverflow {
                span: table.span(),
                enter: table.get("enter"),
                leave: table.get("leave"),
                band: table.get("band"),
                settle: table.get("settle"),
            }),
            gossip: table.table("gossip", &section::GOSSIP, |table| RawGossip {
                span: table.span(),
                port: table.get("port"),
                key_file: table.need("key_file"),
                share: table.get("share"),
                own_after: table.get("own_after"),
                staged: table.get("staged"),
                reference: table.get("reference"),
            }),
            store: table.get("store"),
            etcd: table.table("etcd", &section::ETCD, |table| RawEtcd {
                span: table.span(),
                cache: table.need("cache"),
                prefix: table.get("prefix"),
                ca_file: table.get("ca_file"),
                cert_file: table.get("cert_file"),
                key_file: table.get("key_file"),
                user: table.get("user"),
                password_file: table.get("password_file"),
            }),
        }
    }
}

impl<'d> RawSite<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            name: table.need("name"),
            router_id: table.get("router_id"),
            capacity: table.get("capacity"),
            load: table.get("load"),
            bias: table.get("bias"),
            gossip: table.get("gossip"),
        }
    }
}

impl<'d> RawCheck<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            name: table.need("name"),
            kind: table.need("kind"),
            of_kind: RawKind::read(table),
            interval: table.get("interval"),
            fast_interval: table.get("fast_interval"),
            timeout: table.get("timeout"),
            fall: table.get("fall"),
            rise: table.get("rise"),
            forget: table.get("forget"),
            detect: table.get("detect"),
            combine: table.get("combine"),
            window: table.table("window", &section::WINDOW, |table| RawWindow {
                span: table.span(),
                size: table.get("size"),
                min_success: table.get("min_success"),
                recover: table.get("recover"),
                latency: table.get("latency"),
                quantile: table.get("quantile"),
            }),
            phi: table.table("phi", &section::PHI, |table| RawPhi {
                span: table.span(),
                threshold: table.get("threshold"),
                samples: table.get("samples"),
                model: table.get("model"),
                pause: table.get("pause"),
            }),
            tripwire: table.get("tripwire"),
            process: table.get("process"),
            port: table.get("port"),
            source: table.get("source"),
            vantage_points: table.get("vantage_points"),
        }
    }
}

impl<'d> RawKind<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            span: table.span(),
            path: table.get("path"),
            host: table.get("host"),
            status: table.get("status"),
            body: table.get("body"),
            body_regex: table.get("body_regex"),
            header: table.get("header"),
            value: table.get("value"),
            min: table.get("min"),
            max: table.get("max"),
            reuse: table.get("reuse"),
            tls: table.get("tls"),
            server_name: table.get("server_name"),
            verify: table.get("verify"),
            roots: table.get("roots"),
            expiry_warning: table.get("expiry_warning"),
            query: table.get("query"),
            rtype: table.get("type"),
            rcode: table.get("rcode"),
            answer: table.get("answer"),
            service: table.get("service"),
            command: table.get("command"),
            lease: table.get("lease"),
            when: table.get("when"),
            peer: table.get("peer"),
            feeds: table.get("feeds"),
            scale: table.get("scale"),
        }
    }
}

impl<'d> RawPool<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            span: table.span(),
            name: table.need("name"),
            check: table.get("check"),
            load: table.get("load"),
            endpoints: table.tables("endpoints", &section::ENDPOINT, RawEndpoint::read),
            needs: table.get("needs"),
            outlier: table.table("outlier", &section::OUTLIER, |table| RawOutlier {
                interval: table.get("interval"),
                samples: table.get("samples"),
                stdev_factor: table.get("stdev_factor"),
                failure: table.get("failure"),
                slower: table.get("slower"),
                base_ejection: table.get("base_ejection"),
                max_ejection: table.get("max_ejection"),
                max_ejected: table.get("max_ejected"),
            }),
            damping: table.table("damping", &section::DAMPING, |table| RawDamping {
                span: table.span(),
                penalty: table.get("penalty"),
                half_life: table.get("half_life"),
                suppress: table.get("suppress"),
                reuse: table.get("reuse"),
                max: table.get("max"),
            }),
        }
    }
}

impl<'d> RawEndpoint<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        let pool = table.get("pool");
        let address = match pool {
            Ok(None) => table.need("address").map(Some),
            Ok(Some(_)) | Err(_) => table.get("address"),
        };
        Self {
            span: table.span(),
            pool,
            site: table.get("site"),
            address,
            probe: table.get("probe"),
            weight: table.get("weight"),
            tier: table.get("tier"),
            target: table.get("target"),
            priority: table.get("priority"),
            text: table.get("text"),
        }
    }
}

impl<'d> RawDns<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            listen: table.get("listen"),
            udp_threads: table.get("udp_threads"),
            max_udp_payload: table.get("max_udp_payload"),
            tcp_connections: table.get("tcp_connections"),
            tcp_connections_per_client: table.get("tcp_connections_per_client"),
            tcp_idle: table.get("tcp_idle"),
            nat64: table.get("nat64"),
            identity: table.get("identity"),
            version: table.get("version"),
            cookies: table.get("cookies"),
            cookie_secrets: table.get("cookie_secrets"),
            rrl: table.table("rrl", &section::RRL, |table| RawRrl {
                rate: table.get("rate"),
                slip: table.get("slip"),
                v4_prefix: table.get("v4_prefix"),
                v6_prefix: table.get("v6_prefix"),
                table: table.get("table"),
                log_only: table.get("log_only"),
            }),
            tls: table.table("tls", &section::TLS, |table| RawTls {
                span: table.span(),
                listen: table.get("listen"),
                https: table.get("https"),
                quic: table.get("quic"),
                certificate: table.need("certificate"),
                key: table.need("key"),
            }),
        }
    }
}

impl<'d> RawSteer<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            name: table.need("name"),
            kinds: table.get("type"),
            alpn: table.get("alpn"),
            target: table.get("target"),
            pool: table.need("pool"),
            ttl: table.get("ttl"),
            ttl_min: table.get("ttl_min"),
            ttl_max: table.get("ttl_max"),
            chain: table.get("chain"),
            country: table.get("country"),
            continent: table.get("continent"),
            asn: table.get("asn"),
            cidr: table.get("cidr"),
            if_all_down: table.get("if_all_down"),
        }
    }
}

impl<'d> RawAnycast<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            span: table.span(),
            prefix: table.need("prefix"),
            sites: table.get("sites"),
            while_up: table.get("while_up"),
            next_hop: table.get("next_hop"),
            policy: RawPolicy::read(table),
            to: table.tables("to", &section::TO, |table| RawTo {
                peer: table.need("peer"),
                announce: table.get("announce"),
                policy: RawPolicy::read(table),
            }),
            rise: table.get("rise"),
            fall: table.get("fall"),
            hold_down: table.get("hold_down"),
            flap_budget: table.table("flap_budget", &section::FLAP_BUDGET, |table| RawFlapBudget {
                penalty: table.get("penalty"),
                half_life: table.get("half_life"),
                suppress: table.get("suppress"),
            }),
            bind: table.table("bind", &section::BIND, |table| RawBind {
                span: table.span(),
                interface: table.get("interface"),
                address: table.get("address"),
            }),
            lease: table.table("lease", &section::LEASE, |table| RawLease {
                max: table.get("max"),
                on_expiry: table.get("on_expiry"),
            }),
            on_drain: table.get("on_drain"),
        }
    }
}

impl<'d> RawPolicy<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            prepend: table.get("prepend"),
            med: table.get("med"),
            local_pref: table.get("local_pref"),
            communities: table.get("communities"),
        }
    }
}

impl<'d> RawBgp<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            span: table.span(),
            asn: table.need("asn"),
            router_id: table.get("router_id"),
            listen: table.get("listen"),
            peer: table.tables("peer", &section::PEER, RawPeer::read),
            bmp: table.tables("bmp", &section::BMP, |table| RawBmp {
                address: table.need("address"),
                connect_retry: table.get("connect_retry"),
            }),
            rpki: table.get("rpki"),
        }
    }
}

impl<'d> RawPeer<'d> {
    fn read(table: &Reader<'d, '_>) -> Self {
        Self {
            site: table.get("site"),
            address: table.need("address"),
            port: table.get("port"),
            asn: table.need("asn"),
            source: table.get("source"),
            passive: table.get("passive"),
            hold_time: table.get("hold_time"),
            connect_retry: table.get("connect_retry"),
            interface: table.get("interface"),
            password_file: table.get("password_file"),
            tcp_ao: table.table("tcp_ao", &section::TCP_AO, |table| RawTcpAo {
                span: table.span(),
                key_file: table.need("key_file"),
                send_id: table.get("send_id"),
                receive_id: table.get("receive_id"),
                algorithm: table.get("algorithm"),
            }),
            ttl_security: table.get("ttl_security"),
            multihop: table.get("multihop"),
            families: table.get("families"),
            extended_next_hop: table.get("extended_next_hop"),
            extended_messages: table.get("extended_messages"),
            role: table.get("role"),
            role_strict: table.get("role_strict"),
            graceful_restart: table.table("graceful_restart", &section::GRACEFUL_RESTART, |table| {
                RawGracefulRestart {
                    restart_time: table.get("restart_time"),
                    notification: table.get("notification"),
                }
            }),
            max_prefixes: table.get("max_prefixes"),
            sample: table.get("sample"),
            policy: RawPolicy::read(table),
            bfd: table.table("bfd", &section::BFD, |table| RawBfd {
                span: table.span(),
                interval: table.get("interval"),
                multiplier: table.get("multiplier"),
                strict: table.get("strict"),
                auth: table.get("auth"),
                key_id: table.get("key_id"),
                key_file: table.get("key_file"),
            }),
        }
    }
}
