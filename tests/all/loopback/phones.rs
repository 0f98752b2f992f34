//! Phones of kinds that the other stories do not have, and PBXs at odd addresses.

use std::net::IpAddr;
use std::time::Duration;

use holdline::flow::Transport;
use tokio::net::UdpSocket;

use super::process::Holdline;
use super::server::Cast;
use super::stage::{Setup, Theatre, registered};

/// IPv6 on the phones' side, IPv4 towards the PBX.
#[tokio::test]
async fn phones_over_ipv6_register_at_an_ipv4_pbx_and_are_reached() {
    if !crate::transport::has_ipv6() {
        return;
    }
    for setup in [Setup::new(), Setup::tcp()] {
        let stage = setup.with(&["--listen=udp:[::1]:0,tcp:[::1]:0"]).start().await;
        for (user, transport) in [("100", Transport::Udp), ("101", Transport::Tcp)] {
            let phone = stage.phone_like(user, |options| options.over(transport));
            registered(phone.register().await);
            assert_eq!(stage.servers[0].send("OPTIONS", &format!("{user}@pbx.example")).await, 200, "{transport}");
            assert_eq!(phone.record().requests.len(), 1, "{transport}");
        }
    }
}

/// One host, two addresses, the first of which swallows everything: the only target is not lost for it.
#[tokio::test]
async fn phones_register_where_the_first_address_of_the_only_target_is_silent() {
    let server = Cast { name: "a".to_owned(), ..Cast::default() };
    let setup = Setup::new().served_by(vec![server]).with(&["--attempt-timeout=1s"]);
    let theatre = Theatre::open(&setup).await;
    let addresses = [[127, 0, 0, 7], [127, 0, 0, 1]].map(IpAddr::from);
    let mute = UdpSocket::bind((addresses[0], theatre.servers[0].port)).await.unwrap();
    theatre.dns.set_addresses("a.pbx.example", setup.ttl, &addresses);
    let holdline = Holdline::start(&theatre.arguments(&setup)).await;
    let stage = theatre.with(holdline);
    stage.holdline.until_page("/readyz", 200).await;

    let phone = stage.phone("100");
    registered(phone.register().await);
    assert!(phone.record().finals[0].took >= Duration::from_millis(990), "one attempt went to the silent one");
    assert!(mute.try_recv(&mut [0; 2048]).is_ok(), "one attempt went to the silent one");
    assert_eq!((stage.count(0).await, stage.failovers().await), (0, 0));
    while mute.try_recv(&mut [0; 2048]).is_ok() {}
    registered(stage.phone("101").register().await);
    assert!(mute.try_recv(&mut [0; 2048]).is_err(), "whoever comes next does not try it again");
}
