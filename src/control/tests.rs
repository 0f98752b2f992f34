use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{io, thread};

use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::driver::Request;
use crate::upstream::RollError;

/// A served socket, with a thread that answers as the driver would.
fn start(path: &Path) -> Place {
    let (requests, mut questions) = mpsc::channel(4);
    let Control { listener, place } = Control::bind(path).unwrap();
    serve(listener, requests).unwrap();
    thread::spawn(move || {
        while let Some(question) = questions.blocking_recv() {
            match question {
                Request::Status(to) => drop(to.send(json!({ "draining": false }))),
                Request::Roll(asked, to) => {
                    let error = RollError::NoSuchTarget { asked: asked.unwrap_or_default(), known: "a:1, b:2".into() };
                    drop(to.send(Err(error)));
                }
                _ => {}
            }
        }
    });
    place
}

/// What a client gets that sends these bytes.
fn send(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn one_line_is_asked_and_one_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let _place = start(&path);
    let Ok(Answer::Ok(status)) = ask(&path, &Command::Status {}) else { panic!("an answer") };
    assert_eq!((&status["draining"], status["holdline"]["version"].is_string()), (&json!(false), true));
    let refused = ask(&path, &Command::Roll { target: Some("c".to_owned()) }).unwrap();
    let Answer::Error { kind: CommandRefusal::NoSuchTarget, message } = refused else { panic!("{refused:?}") };
    assert!(message.contains("a:1, b:2"), "{message}");
}

#[test]
fn what_is_no_question_is_told_so_and_a_long_one_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let _place = start(&path);
    for wrong in ["\n", "{}\n", "{\"command\":\"drain\"}\n", "GET / HTTP/1.1\r\n", "{\"command\":\"roll\",\"to\":1}\n"]
    {
        let answer = send(&path, wrong.as_bytes());
        assert!(answer.contains("bad_request") && answer.ends_with('\n'), "{wrong}: {answer}");
    }
    let answer = send(&path, &[b'x'; 4096]);
    assert!(answer.contains("longer than 4096"), "{answer}");
}

#[test]
fn its_file_is_for_its_user_alone_and_goes_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody gets in by way of the directory's mode.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("control.sock");
    let control = Control::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(control);
    assert!(!path.exists());
}

#[test]
fn a_file_left_over_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let first = Control::bind(&path).unwrap();
    assert!(matches!(Control::bind(&path), Err(ControlBindError::InUse(_))));
    let Control { listener, place } = first;
    // As after kill -9: no process listens, and the file is still there.
    drop(listener);
    let second = Control::bind(&path).unwrap();
    drop(place);
    assert!(path.exists(), "whoever ends does not take another's socket away");
    drop(second);

    fs::write(&path, "precious").unwrap();
    assert!(matches!(Control::bind(&path), Err(ControlBindError::NotASocket(_))));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let missing = Control::bind(&folder.path().join("no/such/directory.sock"));
    assert!(
        matches!(missing, Err(ControlBindError::System { ref error, .. }) if error.kind() == io::ErrorKind::NotFound)
    );
}

#[test]
fn clients_that_say_nothing_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let _place = start(&path);
    let idle: Vec<UnixStream> = (0..12).map(|_| UnixStream::connect(&path).unwrap()).collect();
    // The time of the silent clients ends before the asker's time-out.
    assert!(matches!(ask(&path, &Command::Status {}), Ok(Answer::Ok(_))));
    drop(idle);
}
