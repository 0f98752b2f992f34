//! A Redis of our own on loopback, and what a test does to it.

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult};
use tempfile::TempDir;

use super::ports::free_port;
use super::process::{Process, Signal};
use super::wait::until;

/// A running `redis-server`, which keeps nothing on disk. It ends when it is dropped.
pub(crate) struct Redis {
    process: Process,
    pub port: u16,
}

impl Redis {
    /// Starts one with further arguments, and waits until it answers.
    pub(crate) async fn start(arguments: &[&str]) -> Redis {
        Redis::start_at(free_port(), arguments).await
    }

    /// The same at a port.
    pub(crate) async fn start_at(port: u16, arguments: &[&str]) -> Redis {
        let redis = Redis { process: launch("redis-server", port, arguments), port };
        redis.answers().await;
        redis
    }

    /// Waits until it answers, with whatever.
    pub(crate) async fn answers(&self) {
        until("an answer of Redis", async || {
            let said = self.ask::<redis::Value>(&["PING"]).await;
            said.as_ref().map_or_else(|error| !error.is_io_error(), |_| true).then_some(())
        })
        .await;
    }

    /// The setting `cluster` for it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// One command.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection: MultiplexedConnection =
            redis::Client::open(self.url())?.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// `kill -9`.
    pub(crate) fn kill(self) -> u16 {
        self.process.signal(Signal::Kill);
        self.port
    }
}

fn launch(program: &str, port: u16, arguments: &[&str]) -> Process {
    let folder = tempfile::tempdir().unwrap();
    let port = port.to_string();
    let own = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "."];
    let all: Vec<String> = own.iter().chain(arguments).map(ToString::to_string).collect();
    Process::start(folder, program, &all).unwrap()
}

/// A running Sentinel that looks after one server, and gives it up after half a second.
pub(crate) struct Sentinel {
    _process: Process,
    pub port: u16,
}

impl Sentinel {
    pub(crate) async fn of(name: &str, primary: u16) -> Sentinel {
        let (folder, port): (TempDir, u16) = (tempfile::tempdir().unwrap(), free_port());
        // It writes there what it learns.
        let file = folder.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n",
            folder.path().display()
        );
        std::fs::write(&file, settings).unwrap();
        let process = Process::start(folder, "redis-sentinel", &[file.display().to_string()]).unwrap();
        let sentinel = Sentinel { _process: process, port };
        until("the Sentinel knows the replica", async || {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("replicas").arg(name);
            let replicas: Vec<redis::Value> = question.query_async(&mut connection).await.ok()?;
            (!replicas.is_empty()).then_some(())
        })
        .await;
        sentinel
    }
}
