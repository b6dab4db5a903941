use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use super::{Limits, origin};

/// Counts connections over all listeners that share it.
#[derive(Debug, Default)]
pub struct Gate {
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Gate {
    /// Lets a connection in, if the limits allow; it counts until the pass is dropped.
    pub fn admit(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Option<Pass> {
        let address = origin(address);
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by_address.get(&address).copied().unwrap_or_default();
        if self.open.load(Relaxed) >= limits.connections || own >= limits.connections_per_address {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        by_address.insert(address, own + 1);
        self.open.fetch_add(1, Relaxed);
        self.accepted.fetch_add(1, Relaxed);
        Some(Pass { gate: Arc::clone(self), address })
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Connections closed at once because a limit was reached.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// One open connection.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut by_address = self.gate.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        self.gate.open.fetch_sub(1, Relaxed);
        if let Some(own) = by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_in_all_and_per_address() {
        let gate = Arc::new(Gate::default());
        let limits = Limits { connections: 3, connections_per_address: 2, ..Limits::default() };
        let admit = |address: &str| gate.admit(address.parse().unwrap(), &limits);
        let first = admit("10.0.0.1").unwrap();
        let second = admit("::ffff:10.0.0.1").unwrap();
        assert!(admit("10.0.0.1").is_none(), "two per address, however it is written");
        let _third = admit("2001:db8::1").unwrap();
        assert!(admit("10.0.0.2").is_none(), "three in all");
        drop(first);
        let _fourth = admit("2001:db8::2").unwrap();
        drop(second);
        assert!(admit("2001:db8::3").is_none(), "a /64 is one address");
        assert_eq!((gate.open(), gate.accepted(), gate.refused()), (2, 4, 3));
        assert_eq!(gate.by_address.lock().unwrap().len(), 1, "no entry stays behind");
    }
}
