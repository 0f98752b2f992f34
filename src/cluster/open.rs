//! Connections to the shared memory: one for commands, one for messages.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Settings;
use super::address::{Place, shown};
use crate::trust::connector;
use crate::upstream::bounded;

/// For one place: the name, the connection, the handshake, the greeting.
const ONE: Duration = Duration::from_secs(2);
/// For one answer to a question.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

/// An open way to the server.
pub(super) struct Open {
    pub commands: MultiplexedConnection,
    pub messages: PubSub,
    /// Where it goes.
    pub place: String,
    /// What reads and writes it; it ends with this.
    _driver: JoinSet<()>,
}

trait Stream: AsyncRead + AsyncWrite {}
impl<S: AsyncRead + AsyncWrite> Stream for S {}

impl Settings {
    /// Opens both connections, and hears of moves from here on. Errors are words for the log, without secrets.
    pub(super) async fn open(&self, channel: &str) -> Result<Open, String> {
        let place = match &self.address.primary {
            Some(name) => self.primary(name).await?,
            None => self.address.places[0].clone(),
        };
        let at = |error: String| format!("{}: {error}", shown(&place));
        let opened = timeout(ONE, async {
            let (commands, driver) = self.commands(&place, self.credentials(true)).await?;
            let mut messages = PubSub::new(&self.credentials(true), self.stream(&place).await?).await.map_err(words)?;
            messages.subscribe(channel).await.map_err(words)?;
            Ok(Open { commands, messages, place: shown(&place), _driver: driver })
        });
        opened.await.map_err(|_| at(format!("no connection within {ONE:?}")))?.map_err(at)
    }

    /// Asks the Sentinels, in turn, where the server is.
    async fn primary(&self, name: &str) -> Result<Place, String> {
        let mut errors = Vec::new();
        for sentinel in &self.address.places {
            let found = match timeout(ONE, self.ask_sentinel(sentinel, name)).await {
                Ok(found) => found,
                Err(_) => Err(format!("no answer within {ONE:?}")),
            };
            match found {
                Ok(place) => return Ok(place),
                Err(error) => errors.push(format!("{}: {error}", shown(sentinel))),
            }
        }
        Err(format!("no Sentinel says where {name} is: {}", errors.join("; ")))
    }

    async fn ask_sentinel(&self, sentinel: &Place, name: &str) -> Result<Place, String> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(name);
        let mut last = String::new();
        // Most Sentinels ask for no password; those that do mostly have the server's.
        for with_password in [false, true] {
            if with_password && self.password.is_none() {
                break;
            }
            let opened = self.commands(sentinel, self.credentials(with_password).set_db(0)).await;
            let (mut connection, _driver) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match question.query_async::<Option<(String, u16)>>(&mut connection).await {
                Ok(Some(place)) => return Ok(place),
                Ok(None) => return Err(format!("it knows no server {name}")),
                Err(error) => last = words(error),
            }
        }
        Err(last)
    }

    fn credentials(&self, with_password: bool) -> RedisConnectionInfo {
        let mut info = RedisConnectionInfo::default().set_db(self.address.database).set_skip_set_lib_name();
        if let (Some(password), true) = (&self.password, with_password) {
            info = info.set_password(&password.0);
            if let Some(user) = &self.address.user {
                info = info.set_username(user);
            }
        }
        info
    }

    async fn commands(
        &self,
        place: &Place,
        credentials: RedisConnectionInfo,
    ) -> Result<(MultiplexedConnection, JoinSet<()>), String> {
        // Each question has a time of its own, and a batch of bindings a longer one.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let stream = self.stream(place).await?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&credentials, stream, config).await.map_err(words)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        Ok((connection, tasks))
    }

    async fn stream(&self, (host, port): &Place) -> Result<std::pin::Pin<Box<dyn Stream + Send>>, String> {
        let words = |error: std::io::Error| error.to_string();
        let stream = TcpStream::connect((&**host, *port)).await.map_err(words)?;
        stream.set_nodelay(true).map_err(words)?;
        if !self.address.tls {
            return Ok(Box::pin(stream));
        }
        let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        let stream = connector()?.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        Ok(Box::pin(stream))
    }
}

/// What went wrong, in bounded words. The server's own words hold no secret of ours.
#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
pub(super) fn words(error: redis::RedisError) -> String {
    bounded(error.to_string().as_bytes()).map_or_else(String::new, |text| text.to_string())
}
