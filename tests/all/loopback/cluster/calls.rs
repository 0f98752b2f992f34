//! Calls to handsets whose instance is gone, or is another one.

use holdline::flow::Transport;

use super::super::process::Holdline;
use super::super::stage::{Setup, Theatre, phone, registered};
use super::now;
use crate::support::installed::installed;
use crate::support::ports::free_address;
use crate::support::redis::Redis;
use crate::support::wait::until;

/// One instance takes the addresses of another that was killed, as behind a virtual address: it has never seen the handsets, and a
/// call finds the one over UDP at once. The one over TCP is not reached by anybody, which the PBX hears at once.
#[tokio::test]
async fn cluster_calls_find_a_udp_handset_at_the_instance_that_took_the_address_over() {
    let test = "loopback::cluster::calls::cluster_calls_find_a_udp_handset_at_the_instance_that_took_the_address_over";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("contact.key");
    std::fs::write(&key, "of the whole fleet, sixteen bytes or more").unwrap();
    let (handsets, pbx) = (free_address(), free_address());
    let setup = Setup::new().with(&[
        &format!("--cluster={}", redis.url()),
        &format!("--listen=udp:{handsets},tcp:{handsets}"),
        &format!("--upstream-bind={pbx}"),
        &format!("--contact-key={}", key.display()),
    ]);
    let theatre = Theatre::open(&setup).await;
    let start = async |name: &str| {
        let mut arguments = theatre.arguments(&setup);
        arguments.push(format!("--instance={name}"));
        let holdline = Holdline::start(&arguments).await;
        holdline.until_page("/readyz", 200).await;
        holdline.until("cluster_away", 0).await;
        holdline
    };
    let first = start("first").await;
    let over_udp = phone(&first, "204", |options| options);
    let over_tcp = phone(&first, "205", |options| options.over(Transport::Tcp));
    registered(over_udp.register().await);
    registered(over_tcp.register().await);
    until("both bindings are in Redis", async || {
        let keys: Vec<String> = redis.ask(&["KEYS", "holdline:*:handset:*"]).await.ok()?;
        (keys.len() == 2).then_some(())
    })
    .await;
    first.kill().await;

    let second = start("second").await;
    assert_eq!(second.metrics().await.get("bindings"), 0, "it has never seen them");
    let began = now();
    assert_eq!(theatre.servers[0].send("OPTIONS", "204@pbx.example").await, 200);
    eprintln!("found and answered after {:?}", began.elapsed());
    assert_eq!(over_udp.record().requests.len(), 1);
    assert_eq!(second.metrics().await.get("bindings"), 1);
    // Without an answer within its 300 ms it would be 404.
    assert_eq!(theatre.servers[0].send("OPTIONS", "205@pbx.example").await, 480);

    // Redis loses everything and is restarted: the binding is told again.
    let port = redis.kill();
    let redis = Redis::start_at(port, &[]).await;
    until("the binding is there again", async || {
        let keys: Vec<String> = redis.ask(&["KEYS", "holdline:*:handset:*"]).await.ok()?;
        (keys.len() == 1).then_some(())
    })
    .await;
    let remaining: i64 = {
        let keys: Vec<String> = redis.ask(&["KEYS", "holdline:*:handset:*"]).await.unwrap();
        redis.ask(&["TTL", &keys[0]]).await.unwrap()
    };
    assert!((1..=3600).contains(&remaining), "it ends with the registration: {remaining}");

    // A handset that goes takes its binding along.
    registered(over_udp.register().await);
    registered(over_udp.unregister().await);
    until("the binding is gone", async || {
        let keys: Vec<String> = redis.ask(&["KEYS", "holdline:*:handset:*"]).await.ok()?;
        keys.is_empty().then_some(())
    })
    .await;
}
