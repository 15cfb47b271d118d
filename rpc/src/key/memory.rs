//! The model in memory as a store: for tests, and for services that may forget everything when they end.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::claims::Held;
use super::store::{Claim, Clock, Epoch, Found, KeyStore, Message, StoreError, Terms};
use super::{Answer, Book, KeyedCall};

/// A store whose effects are values of `E`. Clones are the same store.
#[derive(Clone)]
pub struct Memory<E> {
    book: Arc<Mutex<Book<E>>>,
    clock: Clock,
}

impl<E> fmt::Debug for Memory<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl<E: Clone> Memory<E> {
    /// An empty one.
    #[must_use]
    pub fn new(terms: Terms, clock: Clock) -> Self {
        Self {
            book: Arc::new(Mutex::new(Book::new(terms))),
            clock,
        }
    }

    /// What is committed.
    #[must_use]
    pub fn effects(&self) -> Vec<E> {
        self.lock().effects().to_vec()
    }

    /// Messages that are committed.
    #[must_use]
    pub fn outbox(&self) -> Vec<Message> {
        self.lock().outbox().to_vec()
    }

    /// Nobody who panicked leaves a book half written: each of its methods changes it at its end.
    fn lock(&self) -> MutexGuard<'_, Book<E>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Clone + Send + 'static> KeyStore for Memory<E> {
    type Claim = MemoryClaim<E>;

    async fn claim(&self, call: &KeyedCall) -> Result<Found<MemoryClaim<E>>, StoreError> {
        let found = self.lock().claim(call, (self.clock)());
        Ok(match found {
            Found::Fresh(held) => Found::Fresh(MemoryClaim {
                store: self.clone(),
                call: call.clone(),
                held,
                staged: Vec::new(),
            }),
            Found::InFlight => Found::InFlight,
            Found::Answered(answer) => Found::Answered(answer),
            Found::OtherPayload => Found::OtherPayload,
        })
    }

    async fn expire(&self, at_most: u32) -> Result<u64, StoreError> {
        Ok(self.lock().expire(at_most, (self.clock)()))
    }
}

/// A claim; its transaction is a list of effects.
#[derive(Debug)]
pub struct MemoryClaim<E: Clone> {
    store: Memory<E>,
    call: KeyedCall,
    held: Held,
    staged: Vec<E>,
}

impl<E: Clone + Send + 'static> Claim for MemoryClaim<E> {
    type Transaction = Vec<E>;

    fn epoch(&self) -> Epoch {
        self.held.epoch
    }

    async fn transaction(&mut self) -> Result<&mut Vec<E>, StoreError> {
        Ok(&mut self.staged)
    }

    async fn commit(mut self, answer: &Answer, outbox: &[Message]) -> Result<(), StoreError> {
        let mut book = self.store.lock();
        for effect in std::mem::take(&mut self.staged) {
            book.stage(&self.held, effect);
        }
        let committed = book.commit(&self.call, &self.held, answer, outbox, (self.store.clock)());
        committed.map_err(StoreError::Fenced)
    }

    async fn release(self) {}
}

impl<E: Clone> Drop for MemoryClaim<E> {
    fn drop(&mut self) {
        self.store.lock().release(&self.held);
    }
}
