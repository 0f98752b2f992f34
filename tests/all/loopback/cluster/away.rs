//! Redis killed, stopped, emptied, slow, full, read-only, behind a wrong password, behind TLS, moved by Sentinel: no handset notices,
//! and the fleet agrees again soon after.

use std::net::SocketAddr;
use std::time::Duration;

use holdline::agents::phone::Phone;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::stage::{Setup, registered};
use super::{Fleet, all_register};
use crate::support::installed::installed;
use crate::support::ports::free_port;
use crate::support::process::Signal;
use crate::support::redis::{Redis, Sentinel};
use crate::support::wait::until;
use crate::transport::certificates::Authority;

/// In which a fleet is to agree again.
const SOON: Duration = Duration::from_secs(10);
/// No REGISTER waits for Redis: below an attempt's time and its retransmissions. A busy machine is given a second.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A fleet of two with five handsets each, whose targets register everybody.
async fn two(url: &str, arguments: &[&str]) -> (Fleet, Vec<Phone>) {
    let setup = Setup::new().with(&[&format!("--cluster={url}")]).with(arguments);
    let fleet = Fleet::start(setup, &["berlin", "hamburg"]).await;
    let phones = fleet.phones(5);
    (fleet, phones)
}

/// While Redis is away, everybody registers at once, and the first instance is rolled; after `back` the others follow.
async fn through(what: &str, fleet: &Fleet, phones: &[Phone], back: impl AsyncFnOnce()) {
    let took = all_register(phones).await;
    assert!(took < AT_ONCE, "{what}: {took:?}");
    let from = fleet.active(0).await;
    let to = fleet.theatre.labels.iter().find(|label| **label != from).unwrap().clone();
    fleet.roll(0, Some(&to));
    assert_eq!(fleet.active(0).await, to, "{what}: it rolls at once");
    let took = all_register(phones).await;
    assert!(took < AT_ONCE, "{what}: {took:?}");
    back().await;
    let took = fleet.agree(&to, SOON).await;
    eprintln!("{what}: agreed {took:?} after its return");
    fleet.all_usable().await;
    all_register(phones).await;
}

async fn away(fleet: &Fleet) {
    away_because(fleet, "").await;
}

/// Waits until all say so, and that it is for this reason.
async fn away_because(fleet: &Fleet, why: &str) {
    for (n, holdline) in fleet.holdlines.iter().enumerate() {
        holdline.until("cluster_away", 1).await;
        until(why, async || {
            let cluster = fleet.cluster(n).await;
            cluster["away"].as_str().is_some_and(|said| said.contains(why)).then_some(())
        })
        .await;
    }
}

async fn tell(redis: &Redis, words: &[&str]) {
    let said: redis::RedisResult<redis::Value> = redis.ask(words).await;
    said.unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

#[tokio::test]
async fn cluster_serves_and_agrees_again_whatever_happens_to_redis() {
    let test = "loopback::cluster::away::cluster_serves_and_agrees_again_whatever_happens_to_redis";
    if !installed(test, &["redis-server"]) {
        return;
    }
    // Away at the start already.
    let port = free_port();
    let (fleet, phones) = two(&format!("redis://127.0.0.1:{port}"), &[]).await;
    away(&fleet).await;
    let mut redis = None;
    through("absent at the start", &fleet, &phones, async || redis = Some(Redis::start_at(port, &[]).await)).await;
    let mut redis = redis.unwrap();

    redis.kill();
    away(&fleet).await;
    let mut again = None;
    through("killed", &fleet, &phones, async || again = Some(Redis::start_at(port, &[]).await)).await;
    redis = again.unwrap();

    redis.signal(Signal::Stop);
    through("stopped", &fleet, &phones, async || {
        away(&fleet).await;
        redis.signal(Signal::Continue);
    })
    .await;

    tell(&redis, &["FLUSHALL"]).await;
    through("emptied", &fleet, &phones, async || {}).await;

    tell(&redis, &["SET", "holdline:{_sip._udp.pbx.example}:fleet", "garbage"]).await;
    through("garbage", &fleet, &phones, async || {}).await;
    tell(&redis, &["DEL", "holdline:{_sip._udp.pbx.example}:fleet"]).await;
    tell(&redis, &["RPUSH", "holdline:{_sip._udp.pbx.example}:fleet", "garbage"]).await;
    through("another type", &fleet, &phones, async || {}).await;

    tell(&redis, &["REPLICAOF", "127.0.0.1", "1"]).await;
    away_because(&fleet, "read only replica").await;
    through("read-only", &fleet, &phones, async || tell(&redis, &["REPLICAOF", "NO", "ONE"]).await).await;

    tell(&redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
    away_because(&fleet, "OOM").await;
    through("full", &fleet, &phones, async || tell(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await).await;

    for holdline in &fleet.holdlines {
        let text = holdline.text();
        assert!(holdline.said("the fleet's shared memory is away").len() <= 8, "and not again and again: {text}");
    }
}

#[tokio::test]
async fn cluster_with_a_slow_redis_serves_as_fast_as_ever() {
    let test = "loopback::cluster::away::cluster_with_a_slow_redis_serves_as_fast_as_ever";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    let slow = slowly(redis.port, Duration::from_millis(100)).await;
    let (fleet, phones) = two(&format!("redis://{slow}"), &[]).await;
    fleet.all_usable().await;
    through("200 ms there and back", &fleet, &phones, async || {}).await;
}

/// A port that leads to another one, each way so much later.
async fn slowly(port: u16, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near_read, far_write), (far_read, near_write)] {
                tokio::spawn(async move {
                    let mut buffer = vec![0; 4096];
                    while let Ok(length @ 1..) = from.read(&mut buffer).await {
                        tokio::time::sleep(delay).await;
                        if to.write_all(&buffer[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn cluster_password_is_used_and_never_shown() {
    let test = "loopback::cluster::away::cluster_password_is_used_and_never_shown";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let redis = Redis::start(&[]).await;
    // What docs/scaling.md says that the user needs.
    let rights = ["~holdline:*", "&holdline:*", "+@read", "+@write", "+@pubsub", "+@connection", "+eval", "+time"];
    let user = [&["ACL", "SETUSER", "holdline", "on", ">s3cret-word"][..], &rights[..]].concat();
    tell(&redis, &user).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "wrong-s3cret-word\n").unwrap();
    let argument = format!("--cluster-password-file={}", file.display());
    let url = format!("redis://holdline@127.0.0.1:{}", redis.port);
    let (fleet, phones) = two(&url, &[&argument, "--log-level=trace"]).await;
    away(&fleet).await;
    through("wrong password", &fleet, &phones, async || {
        tell(&redis, &["ACL", "SETUSER", "holdline", ">wrong-s3cret-word"]).await;
    })
    .await;
    for (n, holdline) in fleet.holdlines.iter().enumerate() {
        assert!(holdline.text().to_lowercase().contains("authentication"), "it is said: {}", holdline.text());
        for page in [holdline.text(), holdline.status().await.to_string(), fleet.cluster(n).await.to_string()] {
            assert!(!page.contains("s3cret-word"), "{page}");
        }
    }
}

#[tokio::test]
async fn cluster_over_tls_verifies_the_server() {
    let test = "loopback::cluster::away::cluster_over_tls_verifies_the_server";
    if !installed(test, &["redis-server"]) {
        return;
    }
    let authority = Authority::new("redis authority");
    let files = authority.sign("redis", &["localhost"]);
    let (tls, plain) = (free_port(), free_port());
    let port = tls.to_string();
    let (cert, key) = (files.cert.display().to_string(), files.key.display().to_string());
    let arguments = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
        "--tls-ca-cert-file",
        &authority.file.display().to_string(),
    ];
    let _redis = Redis::start_at(plain, &arguments).await;
    for (host, usable) in [("localhost", true), ("127.0.0.1", false)] {
        let setup = Setup::new().with(&[&format!("--cluster=rediss://{host}:{tls}")]);
        let stage = setup.start_with(|command| _ = command.env("SSL_CERT_FILE", &authority.file)).await;
        if usable {
            stage.holdline.until("cluster_epoch", 1).await;
        } else {
            stage.holdline.logged("the fleet's shared memory is away").await;
            assert!(stage.holdline.text().contains("TLS: "), "{}", stage.holdline.text());
        }
        registered(stage.phone("100").register().await);
    }
}

#[tokio::test]
async fn cluster_follows_sentinel_to_another_server() {
    let test = "loopback::cluster::away::cluster_follows_sentinel_to_another_server";
    if !installed(test, &["redis-server", "redis-sentinel"]) {
        return;
    }
    let primary = Redis::start(&[]).await;
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]).await;
    let sentinel = Sentinel::of("office", primary.port).await;
    let nobody = free_port();
    let url = format!("redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{}/office", sentinel.port);
    let (fleet, phones) = two(&url, &[]).await;
    fleet.all_usable().await;
    all_register(&phones).await;
    fleet.roll(0, None);
    fleet.agree(&fleet.theatre.labels[1], SOON).await;
    primary.kill();
    away(&fleet).await;
    // Sentinel makes the replica the primary by itself: that is the return.
    through("failover by Sentinel", &fleet, &phones, async || {}).await;
    let stored: String = replica.ask(&["GET", "holdline:{_sip._udp.pbx.example}:fleet"]).await.unwrap();
    assert!(stored.contains("\"epoch\":3"), "{stored}");
}
