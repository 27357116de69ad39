//! Ports that stand in for those that this user may not take.
//!
//! On most machines only the privileged may listen below port 1024, while programs in pods expect to. A listener that
//! says so is given another port, and connections from within this process are led there; who comes from elsewhere has to
//! know the other port. Nothing is different for whoever may take the port itself, nor in the simulator.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

/// The port that is tried first is this much higher: 80 becomes 8080, and 443 becomes 8443.
const HIGHER: u16 = 8000;

/// By the address that was wanted, the one that there is.
static STAND_INS: Mutex<BTreeMap<SocketAddr, SocketAddr>> = Mutex::new(BTreeMap::new());

/// As long as it lives, connections of this process go where the listener is.
pub(super) struct StandIn(SocketAddr);

impl Drop for StandIn {
    fn drop(&mut self) {
        lock().remove(&self.0);
    }
}

/// Listens at another port of the same address.
pub(super) async fn bind(wanted: SocketAddr) -> io::Result<(TcpListener, StandIn)> {
    let mut instead = wanted;
    instead.set_port(wanted.port().saturating_add(HIGHER));
    let listener = match TcpListener::bind(instead).await {
        Ok(listener) => listener,
        Err(_) => {
            instead.set_port(0);
            TcpListener::bind(instead).await?
        }
    };
    let found = listener.local_addr()?;
    lock().insert(wanted, found);
    tracing::info!(%wanted, %found, "this user may not listen at such a port: another one stands in");
    Ok((listener, StandIn(wanted)))
}

/// Where connections to `address` go instead.
pub(super) fn of(address: &str) -> Option<SocketAddr> {
    let stand_ins = lock();
    if stand_ins.is_empty() {
        return None;
    }
    stand_ins.get(&address.parse().ok()?).copied()
}

fn lock() -> MutexGuard<'static, BTreeMap<SocketAddr, SocketAddr>> {
    STAND_INS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_this_process_are_led_to_the_port_that_stands_in() {
        crate::task::block_on(async {
            let wanted = SocketAddr::from(([127, 93, 0, 1], 81));
            let (listener, stand_in) = bind(wanted).await.unwrap();
            assert_eq!(listener.local_addr().unwrap().port(), 8081);
            let connected = crate::net::TcpStream::connect("127.93.0.1:81").await.unwrap();
            assert_eq!(connected.peer_addr().unwrap().port(), 8081);
            drop(stand_in);
            assert!(crate::net::TcpStream::connect("127.93.0.1:81").await.is_err());
            // When that one is taken too, any will do.
            let (other, _stand_in) = bind(wanted).await.unwrap();
            assert_ne!(other.local_addr().unwrap().port(), 8081);
        });
    }
}
