//! The store over real files, and in processes of its own where one must die.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::upstream::{Record, Selection, Settings, Source, Upstream};

fn state(active: &str) -> Persisted {
    let record = |host: &str| Record { port: 5060, host: host.to_owned(), ..Record::default() };
    Persisted {
        source: "srv:_sip._udp.example.com".to_owned(),
        active: format!("{active}:5060"),
        records: vec![record("a"), record("b")],
        seed: 7,
    }
}

fn binding(id: &str, expires_at: u64) -> StoredBinding {
    StoredBinding {
        id: id.to_owned(),
        aor: "alice@example.com".to_owned(),
        contact: "sip:alice@192.0.2.9:5062".to_owned(),
        remote: "192.0.2.9:5062".parse().unwrap(),
        local: "192.0.2.1:5060".parse().unwrap(),
        socket: 0,
        transport: "udp".to_owned(),
        target: "a:5060".to_owned(),
        expires_at,
        wanted: 3600,
        told: 300,
        user_agent: "Phone/1.0".to_owned(),
    }
}

fn open(dir: &Path) -> (Store, RestoredState) {
    Store::open(dir).unwrap()
}

#[test]
fn everything_is_there_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (store, fresh) = open(dir.path());
    assert_eq!((fresh.upstream, fresh.bindings.len()), (None, 0));
    let key = fresh.key.unwrap();
    store.put_upstream(state("b"));
    store.put_binding(binding("h1", 100));
    store.put_binding(binding("h2", 100));
    store.put_binding(binding("h1", 200));
    store.remove_binding("h2");
    store.remove_binding("never there");
    drop(store);
    let (_store, restored) = open(dir.path());
    assert_eq!(
        restored,
        RestoredState { upstream: Some(state("b")), bindings: vec![binding("h1", 200)], key: Some(key) }
    );
}

#[test]
fn flush_writes_and_a_removal_is_kept_too() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put_binding(binding("h1", 100));
    assert!(store.flush());
    store.remove_binding("h1");
    assert!(store.flush());
    assert!(store.flush(), "with nothing to do");
    drop(store);
    assert!(open(dir.path()).1.bindings.is_empty());
}

#[test]
fn a_second_holdline_on_the_same_directory_is_refused_and_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains("state_dir"), "{error}");
    drop(store);
    open(dir.path());
}

#[test]
fn garbage_is_moved_aside_and_a_new_file_begun() {
    let mut scrambled = vec![0u8; 64 * 1024];
    for (place, byte) in scrambled.iter_mut().enumerate() {
        *byte = (place * 131 % 251) as u8;
    }
    for garbage in [b"not a database at all".to_vec(), vec![0; 4096], scrambled] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), &garbage).unwrap();
        let (store, restored) = open(dir.path());
        assert_eq!((restored.upstream, restored.bindings.len()), (None, 0));
        store.put_upstream(state("b"));
        assert!(store.flush());
        drop(store);
        let aside = dir.path().join(format!("{FILE_NAME}.damaged"));
        assert_eq!(std::fs::read(aside).unwrap(), garbage, "kept for whoever wants to look");
        assert_eq!(open(dir.path()).1.upstream, Some(state("b")));
    }
}

#[test]
fn a_store_damaged_anywhere_still_starts_and_never_lies() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put_upstream(state("b"));
    for n in 0..300 {
        store.put_binding(binding(&format!("h{n}"), 100));
    }
    drop(store);
    let path = dir.path().join(FILE_NAME);
    let good = std::fs::read(&path).unwrap();
    let (pages, mut damaged) = (good.len() / 4096, 0);
    for page in (0..pages).step_by((pages / 12).max(1)) {
        let mut bad = good.clone();
        for byte in &mut bad[page * 4096..(page + 1) * 4096] {
            *byte ^= 0x5a;
        }
        std::fs::write(&path, bad).unwrap();
        let (store, restored) = open(dir.path());
        assert!(restored.upstream.is_none_or(|u| u == state("b")), "page {page}");
        assert!(restored.bindings.iter().all(|b| *b == binding(&b.id, 100)), "page {page}");
        damaged += usize::from(restored.bindings.is_empty());
        store.put_upstream(state("a"));
        assert!(store.flush(), "page {page}");
    }
    assert!(damaged > 0, "the test did damage something");
    for cut in [1, 100, 4096, good.len() / 2] {
        std::fs::write(&path, &good[..cut]).unwrap();
        let (store, _) = open(dir.path());
        store.put_upstream(state("a"));
        assert!(store.flush(), "cut to {cut}");
    }
}

#[test]
fn a_layout_of_another_version_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    {
        let meta: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
        let database = redb::Database::create(&path).unwrap();
        let writing = database.begin_write().unwrap();
        writing.open_table(meta).unwrap().insert("version", b"99".as_slice()).unwrap();
        writing.commit().unwrap();
    }
    let (_store, restored) = open(dir.path());
    assert_eq!(restored.upstream, None);
    assert!(dir.path().join(format!("{FILE_NAME}.damaged")).exists());
}

#[test]
fn state_of_another_srv_name_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put_upstream(state("b"));
    drop(store);
    let (_store, restored) = open(dir.path());
    let mut settings =
        Settings::new(Source::Srv { name: "_sip._udp.example.net".to_owned() }, crate::flow::Transport::Udp);
    settings.selection = Selection::HighestWeight;
    #[allow(clippy::disallowed_methods)]
    let upstream = Upstream::new(settings, restored.upstream, 0, std::time::Instant::now());
    assert!(!upstream.ready());
}

/// A path below a file can never be made; so it is for root, too, whom permissions do not stop.
#[test]
fn where_nothing_can_be_written_holdline_starts_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for nowhere in [file.join("state"), "/proc/holdline".into(), "/dev/full".into()] {
        let (store, restored) = open(&nowhere);
        assert!(restored.key.is_some(), "phones need their IDs all the same");
        store.put_upstream(state("b"));
        store.put_binding(binding("h1", 100));
        assert!(!store.flush(), "and nobody is told that it was kept");
    }
}

#[test]
fn what_cannot_be_written_any_more_can_still_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    store.put_upstream(state("b"));
    drop(store);
    let restored = file::read_only(&dir.path().join(FILE_NAME)).unwrap();
    assert_eq!(restored.upstream, Some(state("b")));
}

#[test]
fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (_store, _) = open(dir.path());
    let mode = std::fs::metadata(dir.path().join(FILE_NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Runs a test of this file in a process of its own, in a shell with these preparations.
fn child(test: &str, dir: &Path, prepare: &str) -> Child {
    let exe = std::env::current_exe().unwrap();
    Command::new("sh")
        .args(["-c", &format!("{prepare} exec \"$0\" --exact --nocapture --test-threads 1 store::tests::{test}")])
        .arg(exe)
        .env("HOLDLINE_TEST_STATE_DIR", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for_line(child: &mut Child, wanted: &str) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(wanted)), "the child never said {wanted}");
}

fn child_dir() -> Option<std::path::PathBuf> {
    std::env::var_os("HOLDLINE_TEST_STATE_DIR").map(Into::into)
}

/// Does nothing unless the next test runs it in a process of its own.
#[test]
fn child_puts_and_waits_to_be_killed() {
    let Some(dir) = child_dir() else { return };
    let (store, _) = open(&dir);
    store.put_upstream(state("b"));
    println!("put");
    loop {
        std::thread::park();
    }
}

/// Kill -9 after a rollover. Nobody flushes; the thread has but to get its turn.
#[test]
fn the_active_target_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child("child_puts_and_waits_to_be_killed", dir.path(), "");
    wait_for_line(&mut child, "put");
    let (file, copy) = (dir.path().join(FILE_NAME), tempfile::tempdir().unwrap());
    let copied = copy.path().join(FILE_NAME);
    // A copy of the living file, opened as after a crash, tells when it got there.
    #[allow(clippy::disallowed_methods)]
    let give_up = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        std::fs::copy(&file, &copied).unwrap();
        if let Ok((_, restored)) = file::open_or_replace(&copied)
            && restored.upstream == Some(state("b"))
        {
            break;
        }
        #[allow(clippy::disallowed_methods)]
        let now = std::time::Instant::now();
        assert!(now < give_up, "not written in ten seconds");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(open(dir.path()).1.upstream, Some(state("b")));
}

/// Does nothing unless the next test runs it in a process of its own.
#[test]
fn child_meets_a_full_disk() {
    let Some(dir) = child_dir() else { return };
    let (store, restored) = open(&dir);
    assert!(restored.key.is_some());
    let mut n = 0;
    // Until the disk is full: at once if it was full from the start.
    while store.flush() && n < 100_000 {
        for _ in 0..500 {
            n += 1;
            store.put_binding(binding(&format!("h{n}"), 100));
        }
    }
    store.put_upstream(state("b"));
    println!("full after {n}, flushed {}, was at {:?}", store.flush(), restored.upstream.map(|u| u.active));
    drop(store);
    println!("alive");
}

/// A full disk, made with a limit on the size of files: writes beyond it fail as on a full disk, but with EFBIG for
/// ENOSPC (and without the signal, which the shell has switched off).
#[test]
fn a_full_disk_stops_nothing_and_costs_only_what_it_could_not_take() {
    for (blocks, known) in [(0, false), (40, false), (4000, true)] {
        let dir = tempfile::tempdir().unwrap();
        if known {
            let (store, _) = open(dir.path());
            store.put_upstream(state("a"));
        }
        let prepare = format!("trap '' XFSZ; ulimit -f {blocks};");
        let mut child = child("child_meets_a_full_disk", dir.path(), &prepare);
        let said: Vec<String> = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(Result::ok).collect();
        let said = said.join("\n");
        assert!(child.wait().unwrap().success(), "{said}");
        assert!(said.contains("alive") && said.contains("flushed false"), "{said}");
        let (_store, restored) = open(dir.path());
        if known {
            assert!(said.contains("was at Some(\"a:5060\")"), "{said}");
            assert_eq!(restored.upstream, Some(state("a")), "what was written stays");
        }
    }
}

#[test]
fn a_disk_that_takes_nothing_does_not_fill_the_memory() {
    let pending = Pending::default();
    for n in 0..200_010 {
        pending.put_binding(binding(&format!("h{n}"), 100));
    }
    assert_eq!(pending.dropped(), 10);
    pending.put_binding(binding("h7", 200));
    assert_eq!(pending.dropped(), 10, "newer news of a waiting one has room");
}

#[test]
fn what_failed_is_tried_again_unless_there_is_newer_news() {
    let pending = Pending::default();
    pending.put_binding(binding("h1", 100));
    pending.put_binding(binding("h2", 100));
    pending.put_upstream(state("a"));
    let (pending::Work::Write(batch), flush) = pending.wait(None) else { panic!("not closing") };
    pending.put_binding(binding("h1", 200));
    pending.failed(batch, flush);
    let (pending::Work::Write(batch), _) = pending.wait(Some(Duration::ZERO)) else { panic!("not closing") };
    assert_eq!(batch.bindings["h1"], Some(binding("h1", 200)));
    assert_eq!(batch.bindings["h2"], Some(binding("h2", 100)));
    assert_eq!(batch.upstream, Some(state("a")));
}
