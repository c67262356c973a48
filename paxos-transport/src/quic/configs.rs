//! What connections are made with.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use paxos_core::{message::Lane, port::TransportError};
use quinn::{
    ClientConfig, Connection, ServerConfig, TransportConfig,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};

use crate::tls::{self, Tls};

/// How often an idle connection shows that it is alive.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a connection without a sign of life is believed in: two election timeouts at their default.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// Batches of the log lane under way at once on one connection.
const STREAMS_MAX: u32 = 128;

/// Bytes under way at once on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes under way at once before the other side is known: a handshake is shorter.
const STRANGER_WINDOW_BYTES: u32 = 16 << 10;

/// Connections that have come in and wait to be looked at, and what they may send meanwhile, each and all.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES_MAX: u64 = 16 << 10;
const ALL_INCOMING_BYTES_MAX: u64 = 4 << 20;

/// What a round trip is taken for before it has been measured: a guess for one data centre, since
/// a wrong one costs a packet sent twice, and a high one a slow start after a loss.
const ROUND_TRIP_GUESS: Duration = Duration::from_millis(50);

/// Made anew when the certificates are others.
#[derive(Debug)]
pub(super) struct Configs {
    tls: Tls,
    made: Mutex<Made>,
}

#[derive(Clone, Debug)]
struct Made {
    from: Arc<tls::Configs>,
    server: Arc<ServerConfig>,
    client: ClientConfig,
}

impl Configs {
    pub(super) fn new(tls: Tls) -> Result<Configs, TransportError> {
        let made = make(tls.last()).map_err(|error| TransportError::Tls(error.to_string()))?;
        Ok(Configs { tls, made: Mutex::new(made) })
    }

    /// Of what was made last.
    pub(super) fn last_server(&self) -> ServerConfig {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        ServerConfig::clone(&made.server)
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.tls.is_authenticated()
    }

    /// To let a connection in that comes now.
    pub(super) async fn server(&self) -> io::Result<Arc<ServerConfig>> {
        Ok(self.current().await?.server)
    }

    /// To dial now.
    pub(super) async fn client(&self) -> io::Result<ClientConfig> {
        Ok(self.current().await?.client)
    }

    async fn current(&self) -> io::Result<Made> {
        let current = self.tls.current().await;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&made.from, &current) {
            *made = make(current).map_err(io::Error::other)?;
        }
        Ok(made.clone())
    }
}

/// Lets a peer that is known send as much as it may.
pub(super) fn welcome(connection: &Connection, lane: Lane) {
    connection.set_receive_window(CONNECTION_WINDOW_BYTES.into());
    if lane == Lane::Log {
        connection.set_max_concurrent_uni_streams(STREAMS_MAX.into());
    }
}

fn make(from: Arc<tls::Configs>) -> Result<Made, NoInitialCipherSuite> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(0u8.into())
        .max_concurrent_bidi_streams(1u8.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(STRANGER_WINDOW_BYTES.into())
        .send_window(CONNECTION_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None)
        .initial_rtt(ROUND_TRIP_GUESS)
        .keep_alive_interval(Some(KEEPALIVE_INTERVAL))
        .max_idle_timeout(Some(IDLE_MAX.try_into().expect("a few seconds")));
    let transport = Arc::new(transport);
    let crypto = QuicServerConfig::try_from(from.server.clone())?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(transport.clone())
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES_MAX)
        .migration(false);
    let crypto = QuicClientConfig::try_from(from.client.clone())?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(transport);
    Ok(Made { from, server: Arc::new(server), client })
}
