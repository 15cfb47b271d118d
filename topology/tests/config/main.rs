//! `steer.toml` as a whole: good files load, bad files get one message per fault.

mod faults;
mod page;
mod random;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use steer_topology::{
    AllDown, At, Bias, BodyRule, CheckId, CheckKind, Combine, Condition, CookieUse, DetectorRules, Dns,
    DnsCheck, EndpointId, EventKind, Feeds, Filter, Fleet, GrpcCheck, InService, MailTls, NotifyTo, PhiModel,
    PoolId, Prefix, Rrl, SiteId, Subject, Target, TlsRules, Ttl, UnknownSite, WindowRules, report,
};
use support::{Hosts, folder, load, parse};

#[test]
fn the_minimal_dns_server_loads() {
    let fleet = load("minimal-dns.toml").unwrap();
    assert_eq!(
        fleet.dns.unwrap().listen,
        ["127.0.0.1:5300".parse::<SocketAddr>().unwrap()]
    );
    assert_eq!(fleet.zones.len(), 1);
    assert_eq!(fleet.zones[0].name.as_str(), "example.com.");
    assert_eq!(fleet.zones[0].file, folder("valid").join("example.com.zone"));
    assert_eq!(
        (fleet.name.as_str(), fleet.sites.len(), fleet.bgp, fleet.admin),
        ("fleet", 0, None, None)
    );
}

#[test]
fn reference_targets_load_and_stand_at_no_site_of_ours() {
    let fleet = load("reference.toml").unwrap();
    assert_eq!(fleet.gossip.unwrap().reference, Some(PoolId(0)));
    let sites: Vec<_> = fleet.endpoints.iter().map(|endpoint| endpoint.site).collect();
    assert_eq!(sites, [None, None]);
}

#[test]
fn the_minimal_speaker_loads() {
    let fleet = load("minimal-bgp.toml").unwrap();
    assert_eq!(fleet.router_id(None), Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(fleet.dns, None);
    let bgp = fleet.bgp.unwrap();
    let peer = &bgp.peers[0];
    assert_eq!(
        (peer.port, peer.passive, peer.hold_time),
        (179, false, Duration::from_secs(90))
    );
    assert_eq!(fleet.anycast[0].while_up, []);
    assert_eq!(fleet.anycast[0].sites, []);
}

#[test]
fn the_name_server_has_every_key_and_every_default() {
    let dns = load("fleet.toml").unwrap().dns.unwrap();
    assert_eq!(dns.udp_threads.map(NonZeroU16::get), Some(4));
    assert_eq!(
        (
            dns.max_udp_payload,
            dns.tcp_connections,
            dns.tcp_connections_per_client
        ),
        (1400, 1000, 10)
    );
    assert_eq!(
        (dns.tcp_idle, dns.cookies),
        (Duration::from_secs(5), CookieUse::Require)
    );
    let prefixes: Vec<_> = dns.nat64.iter().map(|nat64| nat64.prefix().to_string()).collect();
    assert_eq!(prefixes, ["2001:db8:64::/96", "2001:db8:6464::/48"]);
    assert_eq!(
        (dns.identity.as_deref(), dns.version.as_deref()),
        (Some("edge-7"), Some("steer"))
    );
    assert_eq!(dns.cookie_secrets, [folder("valid").join("cookie.secret")]);
    let rrl = dns.rrl.unwrap();
    assert_eq!(
        (rrl.rate, rrl.slip, rrl.v4_prefix, rrl.v6_prefix),
        (50, 0, 32, 64)
    );
    assert_eq!((rrl.table, rrl.log_only), (4096, true));
    let tls = dns.tls.unwrap();
    assert_eq!((tls.listen.len(), tls.https.len()), (1, 2));
    assert_eq!(tls.certificate, folder("valid").join("bfd.key"));
    let bare = parse("[dns]\nrrl = {}\n").unwrap().dns.unwrap();
    let rrl = Rrl {
        rate: 20,
        slip: 2,
        v4_prefix: 24,
        v6_prefix: 56,
        table: 131_072,
        log_only: false,
    };
    assert_eq!(
        bare,
        Dns {
            rrl: Some(rrl),
            ..Dns::default()
        }
    );
}

#[test]
fn every_kind_of_check_loads_with_its_keys_and_its_defaults() {
    let fleet = load("checks.toml").unwrap();
    let [
        page,
        more_load,
        shake,
        dns,
        cart,
        host,
        script,
        agent,
        both,
        requests,
        served,
    ] = &fleet.checks[..]
    else {
        panic!("{:?}", fleet.checks)
    };
    let CheckKind::Http(rules) = &page.kind else {
        panic!("{page:?}")
    };
    assert_eq!(rules.status, [(200, 200), (301, 302)]);
    assert_eq!(rules.header, Some(("x-ready".to_owned(), "yes".to_owned())));
    assert_eq!(rules.body, Some(BodyRule::Matches("^ok".to_owned())));
    let tls = rules.tls.as_ref().unwrap();
    assert_eq!(
        (tls.server_name.as_deref(), tls.verify),
        (Some("edge.example.com"), true)
    );
    assert_eq!(
        page.source.to("[2001:db8::1]:80".parse().unwrap()),
        "2001:db8::10".parse().ok()
    );
    assert_eq!(
        (page.fast_interval, page.forget.get()),
        (Duration::from_millis(100), 2)
    );

    let CheckKind::Http(rules) = &more_load.kind else {
        panic!("{more_load:?}")
    };
    let value = rules.value.as_ref().unwrap();
    assert_eq!((value.min, value.max), (Some(0.0), Some(0.75)));
    assert!(matches!(
        &shake.kind,
        CheckKind::Tls(TlsRules { verify: false, .. })
    ));
    assert!(matches!(&dns.kind, CheckKind::Dns(DnsCheck { rcode, .. }) if rcode == "NXDOMAIN"));
    assert!(matches!(
        &cart.kind,
        CheckKind::Grpc(GrpcCheck { tls: Some(_), .. })
    ));
    assert_eq!(host.kind, CheckKind::Icmp);
    let half = Duration::from_millis(500);
    assert_eq!(
        (host.interval, host.fast_interval, host.fall.get()),
        (half * 2, half, 3)
    );
    let window = |size| WindowRules {
        size,
        min_success: 50,
        recover: 80,
        latency: None,
    };
    assert_eq!(
        host.detect,
        [DetectorRules::Threshold, DetectorRules::Window(window(10))]
    );
    let patient = DetectorRules::Window(window(40));
    assert_eq!(script.detect[1], patient, "an outage is seen by `fall` first");

    assert_eq!(
        (agent.fall.get(), agent.rise.get(), agent.combine),
        (1, 1, Combine::All)
    );
    assert!(matches!(&agent.detect[1], DetectorRules::Phi(phi) if phi.model == PhiModel::Empirical));
    let CheckKind::Load(rules) = &requests.kind else {
        panic!("{requests:?}")
    };
    assert_eq!(
        (rules.feeds, rules.scale, rules.lease, rules.page.path.as_str()),
        (Feeds::Weight, 0.5, Duration::from_secs(5), "/metrics")
    );
    assert!(rules.page.tls.is_some() && rules.page.value.is_some());
    assert_eq!(served.process.as_deref(), Some(Path::new("/run/named.pid")));
    assert_eq!(fleet.pools[0].load, Some(CheckId(9)));
    let CheckKind::Calculated { when } = &both.kind else {
        panic!("{both:?}")
    };
    assert_eq!(when.checks(), [0, 1, 3, 5, 6].map(CheckId));
    let holds = |good: &[u32]| when.holds(&|check| Some(good.contains(&check.0)));
    assert_eq!(
        (holds(&[0, 3]), holds(&[0, 1]), holds(&[0, 3, 5])),
        (Some(true), Some(false), Some(false))
    );
    assert_eq!(
        when.holds(&|check| (check.0 != 0).then_some(false)),
        None,
        "it hangs on the one that is unknown"
    );
    assert_eq!(fleet.pools[0].outlier.as_ref().unwrap().max_ejected, 50);
}

#[test]
fn an_empty_file_is_an_empty_fleet() {
    let fleet = parse("").unwrap();
    assert_eq!((fleet.guard.keep_sites, fleet.guard.max_withdrawn), (1, 1));
    assert_eq!(fleet.dns, None);
}

#[test]
fn a_whole_fleet_loads_with_every_reference_resolved_and_every_default_filled_in() {
    let fleet = load("fleet.toml").unwrap();
    let names: Vec<&str> = fleet.sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!(names, ["fra", "nrt"]);
    assert_eq!(fleet.sites[1].country, "JP");
    assert_eq!(
        fleet.checks[1].timeout,
        Duration::from_millis(100),
        "the default follows a shorter interval"
    );
    // multi.example has two addresses.
    assert_eq!(fleet.pools[0].endpoints, [0, 1, 2].map(EndpointId));
    assert_eq!(fleet.pools[1].endpoints, [3, 4].map(EndpointId));
    let hosts: Vec<Option<&str>> = fleet
        .endpoints
        .iter()
        .map(|endpoint| endpoint.host.as_deref())
        .collect();
    assert_eq!(
        hosts,
        [
            None,
            Some("multi.example"),
            Some("multi.example"),
            None,
            None,
            None
        ]
    );
    let tiers: Vec<u16> = fleet.endpoints.iter().map(|endpoint| endpoint.tier).collect();
    assert_eq!(
        tiers,
        [0, 1, 1, 7, 3, 0],
        "a host's addresses share the host's place in the list"
    );
    assert_eq!(
        fleet.endpoint(EndpointId(0)).probe,
        "10.0.0.10:8080".parse().unwrap()
    );
    assert_eq!(
        fleet.steers[0].zone, 1,
        "the closest enclosing zone holds the name"
    );
    assert_eq!(
        fleet.steers[0].chain,
        [Filter::Up, Filter::Nearest, Filter::Take(2.try_into().unwrap())]
    );
    assert_eq!(fleet.steers[1].zone, 0);
    assert_eq!(fleet.steers[1].if_all_down, AllDown::Nodata);
    assert_eq!(fleet.members(PoolId(2)), [3, 4, 5, 0, 1, 2].map(EndpointId));
    assert_eq!(
        (fleet.sites[0].load, fleet.sites[0].bias),
        (Some(15_000), Bias::Percent(-10.0))
    );
    let all = &fleet.steers[2];
    let chain: Vec<String> = all.chain.iter().map(Filter::to_string).collect();
    assert_eq!(
        chain.join(", "),
        "up, geofence continent, geofence country, cidr, asn, country, continent, latency, overflow, trickle 5%, \
         sticky 20 40, sticky 24 48, shuffle, take 1"
    );
    let (min, max) = (Duration::from_secs(10), Duration::from_mins(10));
    assert_eq!(
        (all.ttl, all.if_all_down),
        (Ttl::Auto { min, max }, AllDown::Pool(PoolId(1)))
    );
    let nrt = [Target::Site(SiteId(1)), Target::Tier(1)];
    assert_eq!(all.maps.country.targets(Some(&"JP".parse().unwrap())), nrt);
    assert_eq!(all.maps.country.targets(None), [Target::Tier(0)]);
    let network: Prefix = "192.0.2.128/25".parse().unwrap();
    assert_eq!(all.maps.cidr.around(Some(&network)), [Target::Site(SiteId(0))]);
    assert_eq!(all.maps.cidr.around(None), []);
    assert_eq!(fleet.steers[3].if_all_down, AllDown::ServeLastGood);
    let condition = |pool, at| {
        Condition::InService(InService {
            subject: Subject::Pool(PoolId(pool)),
            at,
            at_least: NonZeroU16::MIN,
        })
    };
    assert_eq!(
        fleet.anycast[0].while_up,
        [condition(0, At::Local), condition(1, At::Site(SiteId(0)))]
    );
    assert_eq!(
        fleet.anycast[0].sites,
        [SiteId(0), SiteId(1)],
        "all sites, when none is written"
    );
    assert_eq!(fleet.anycast[1].while_up, [condition(1, At::Anywhere)]);
    assert_eq!(
        fleet.router_id(Some(SiteId(0))),
        Some(Ipv4Addr::new(192, 0, 2, 10))
    );
    assert_eq!(
        fleet.router_id(Some(SiteId(1))),
        Some(Ipv4Addr::new(192, 0, 2, 99))
    );
}

#[test]
fn channels_load_with_every_key_and_every_default() {
    let [incidents, noc, relay] = &load("fleet.toml").unwrap().notify[..] else {
        panic!("three channels");
    };
    assert!(matches!(&incidents.to, NotifyTo::Webhook { url, secret_file }
        if url.0.ends_with("token=t") && *secret_file == folder("valid").join("cookie.secret")));
    assert!(
        !format!("{incidents:?}").contains("token"),
        "a URL is shown nowhere"
    );
    assert_eq!(incidents.events, EventKind::ALL);
    assert_eq!(
        (incidents.per_minute, incidents.tries, incidents.sites.len()),
        (60, 60, 0)
    );
    let NotifyTo::Email(mailing) = &noc.to else {
        panic!("{noc:?}")
    };
    assert_eq!(
        (mailing.host.as_str(), mailing.port, mailing.tls),
        ("mail.example", 2525, MailTls::Implicit)
    );
    assert_eq!(mailing.user.as_ref().unwrap().0, "steer");
    assert_eq!(mailing.to, ["noc@example.com", "oncall@example.com"]);
    assert_eq!(noc.events, [EventKind::Verdict, EventKind::Route]);
    assert_eq!(noc.sites, [SiteId(0), SiteId(1)]);
    assert_eq!((noc.per_minute, noc.tries), (20, 3));
    let NotifyTo::Email(mailing) = &relay.to else {
        panic!("{relay:?}")
    };
    assert_eq!((mailing.host.as_str(), mailing.port), ("2001:db8::25", 25));
}

#[test]
fn a_site_is_chosen_by_name_and_only_where_sites_are_declared() {
    let fleet = load("fleet.toml").unwrap();
    assert_eq!(fleet.local_site(Some("NRT")), Ok(Some(SiteId(1))));
    assert!(matches!(fleet.local_site(None), Err(UnknownSite::Missing { .. })));
    let error = fleet.local_site(Some("lhr")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no site `lhr`; the file declares `fra` and `nrt`"
    );
    let single = load("minimal-dns.toml").unwrap();
    assert_eq!(single.local_site(None), Ok(None));
    assert!(matches!(
        single.local_site(Some("fra")),
        Err(UnknownSite::NoneDeclared { .. })
    ));
}

#[test]
fn ten_thousand_endpoints_load() {
    let mut text = String::from("[[site]]\nname = \"fra\"\n[[pool]]\nname = \"big\"\nendpoints = [\n");
    for n in 0..10_000_u32 {
        let [_, _, high, low] = n.to_be_bytes();
        text.push_str(&format!(
            "  {{ site = \"fra\", address = \"10.0.{high}.{low}:80\" }},\n"
        ));
    }
    text.push(']');
    let fleet = parse(&text).unwrap();
    assert_eq!(fleet.endpoints.len(), 10_000);
    assert_eq!(fleet.pools[0].endpoints.last(), Some(&EndpointId(9_999)));
    assert_eq!(fleet.endpoints[9_999].tier, 9_999);
}

#[test]
fn ten_thousand_faults_are_told_one_by_one() {
    let text: String = (0..10_000)
        .map(|n| format!("[[check]]\nname = \"c{n}\"\nkind = \"tpc\"\n"))
        .collect();
    let faults = parse(&text).unwrap_err();
    assert_eq!(faults.0.len(), 10_000);
    assert_eq!(faults.0[9_999].place.as_ref().unwrap().line, 30_000);
    let shown = report::render(&faults, &report::Sources::default(), false);
    assert_eq!(shown.matches("did you mean `tcp`?").count(), 10_000);
}

#[test]
fn columns_count_characters_not_bytes() {
    let text = "[fleet]\nname = \"\u{dc}n\u{ef}c\u{f6}d\u{e9} \u{1f30d}\"\n[[check]]\nname = \"\u{e9}\u{e9}\u{e9}\" # \u{1f30d}\nkind = \"\u{fc}\"\n[[pool]]\n\
                name = \"p\"\nendpoints = [{ address = \"h\u{f6}st.example:80\" }, { address = \"192.0.2.1:80\", site = \"x\" }]\n";
    let faults = parse(text).unwrap_err();
    let places: Vec<_> = faults.0.iter().filter_map(|fault| fault.place.as_ref()).collect();
    let at: Vec<(usize, usize)> = places.iter().map(|place| (place.line, place.column)).collect();
    assert_eq!(at, [(5, 8), (8, 26), (8, 82)], "{faults}");
    for place in places {
        assert_eq!(
            text[..place.span.start]
                .rsplit('\n')
                .next()
                .unwrap()
                .chars()
                .count()
                + 1,
            place.column
        );
    }
}

#[test]
fn a_missing_file_and_a_file_that_is_no_text_are_faults() {
    let missing = Fleet::load(&folder("faults").join("none.toml"), &Hosts).unwrap_err();
    assert!(
        missing.to_string().contains("none.toml: the file cannot be read"),
        "{missing}"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("latin1.toml");
    std::fs::write(&path, b"[fleet]\nname = \"M\xfcnchen\"\n").unwrap();
    let faults = Fleet::load(&path, &Hosts).unwrap_err();
    assert!(
        faults
            .to_string()
            .ends_with("latin1.toml:2:10: byte 0xfc is no UTF-8; save the file as UTF-8"),
        "{faults}"
    );
}

#[test]
fn the_report_shows_the_line_the_value_and_the_remedy() {
    let text = "[[check]]\nname = \"web\"\nkind = \"http\"\nintervall = \"1s\"\n";
    let faults = parse(text).unwrap_err();
    let mut sources = report::Sources::default();
    sources.insert(Path::new("steer.toml"), text.to_owned());
    let plain = report::render(&faults, &sources, false);
    for part in [
        "unknown key `intervall` in [[check]]",
        "steer.toml:4:1",
        "intervall = \"1s\"",
        "did you mean `interval`?",
    ] {
        assert!(plain.contains(part), "{part:?} not in\n{plain}");
    }
    assert!(!plain.contains('\u{1b}'));
    assert!(report::render(&faults, &sources, true).contains('\u{1b}'));
}
