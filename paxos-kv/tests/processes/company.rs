//! Clients that no server wants: they say nothing, take every place there is, or take back what they have
//! asked for. They suffer whatever the servers do to them; the others must not notice.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use paxos_kv::proto::etcdserverpb::RangeRequest;
use prost::Message;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::timeout};

use super::frames::{answer, call, cancel, greeting, message};

/// Connections to each server: more than it has places for clients under [`DESCRIPTORS_MAX`].
const CROWD: usize = 100;

/// What a server may open, in the tests: it has eighty places for clients.
pub(crate) const DESCRIPTORS_MAX: u32 = 230;

/// Requests that are taken back at a time: more than the twenty that libraries forgive.
const CANCELLED: u32 = 200;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_millis(500);

/// How long the one answer may take that is not taken back.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Between two attempts to be served.
const PAUSE: Duration = Duration::from_millis(20);

/// What silent clients have said before they fell silent.
const BEGINNINGS: [&str; 6] = [
    "",
    "P",
    "PRI * HT",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /health HT",
    "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx",
];

/// All of them, as long as their fault lasts.
#[derive(Debug, Default)]
pub(crate) struct Company {
    connections: Vec<TcpStream>,
    cancelling: JoinSet<()>,
    /// How often a request was answered beside [`CANCELLED`] that were taken back.
    answered: Arc<AtomicU64>,
    complaint: Arc<Mutex<Option<String>>>,
}

impl Company {
    /// Connects many times to each server, and says no more than the beginning of something.
    pub(crate) async fn fall_silent(&mut self, endpoints: &[String]) {
        let said = BEGINNINGS.iter().map(|beginning| beginning.as_bytes().to_vec()).collect();
        self.connect(endpoints, said).await;
    }

    /// Takes every place that the servers have for clients.
    pub(crate) async fn crowd(&mut self, endpoints: &[String]) {
        self.connect(endpoints, vec![greeting()]).await;
    }

    async fn connect(&mut self, endpoints: &[String], said: Vec<Vec<u8>>) {
        let mut attempts = Vec::new();
        for endpoint in endpoints {
            attempts.extend((0..CROWD).map(|number| {
                let said = &said[number % said.len()];
                timeout(CONNECT_MAX, async move {
                    let mut connection = TcpStream::connect(endpoint).await.ok()?;
                    connection.write_all(said).await.ok()?;
                    Some(connection)
                })
            }));
        }
        // Who is refused, or has to wait, has been there.
        let connected = join_all(attempts).await.into_iter().filter_map(|attempt| attempt.ok()?);
        self.connections.extend(connected);
    }

    /// Asks every server again and again, and takes everything back but one read.
    pub(crate) fn cancel(&mut self, endpoints: &[String]) {
        for endpoint in endpoints {
            let (endpoint, answered) = (endpoint.clone(), self.answered.clone());
            let complaint = self.complaint.clone();
            self.cancelling.spawn(async move {
                loop {
                    match cancelled_beside_one(&endpoint).await {
                        Ok(true) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        // The server is not up yet, or busy.
                        Ok(false) => tokio::time::sleep(PAUSE).await,
                        Err(error) => {
                            let text = format!("{endpoint} does not answer beside others: {error}");
                            *complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                            return;
                        }
                    }
                }
            });
        }
    }

    /// How often a request was answered although all others on its connection were taken back.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Those that only were there go away.
    pub(crate) fn go_home(&mut self) {
        self.connections.clear();
    }

    /// All go away.
    ///
    /// # Errors
    ///
    /// If one of them had a right to an answer and got none.
    pub(crate) async fn leave(&mut self) -> Result<(), String> {
        self.go_home();
        self.cancelling.shutdown().await;
        let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
        complaint.map_or(Ok(()), Err)
    }
}

/// Whether a read is answered on whose connection everything else is taken back; false if there is no
/// connection or no answer in time.
async fn cancelled_beside_one(endpoint: &str) -> io::Result<bool> {
    let Ok(Ok(mut connection)) = timeout(CONNECT_MAX, TcpStream::connect(endpoint)).await else {
        return Ok(false);
    };
    // Needs no leader, so that it is answered whatever the network does.
    let read = RangeRequest { key: "k".into(), serializable: true, ..RangeRequest::default() };
    let mut said = greeting();
    said.extend(call(1, "/etcdserverpb.KV/Range", &[]));
    said.extend(message(1, &read.encode_to_vec()));
    for number in 1..=CANCELLED {
        said.extend(call(1 + 2 * number, "/etcdserverpb.KV/Put", &[]));
        said.extend(cancel(1 + 2 * number));
    }
    connection.write_all(&said).await?;
    match timeout(ANSWER_MAX, answer(&mut connection, 1)).await {
        Ok(answered) => answered.map(|_| true),
        Err(_) => Ok(false),
    }
}
