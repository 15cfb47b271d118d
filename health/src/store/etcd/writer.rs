//! Wishes on their way into the cluster: one transaction each, at whichever member answers.

use std::time::Duration;

use steer_topology::EtcdStore;

use super::link::{Access, Link, LinkError};
use super::names::Names;
use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, request_op,
    response_op,
};
use crate::store::{Edit, StoredWish};

/// Longest that a write may take, whatever number of members is asked.
const WRITE_LIMIT: Duration = Duration::from_secs(6);

/// Writes into the cluster. Each write has a connection of its own: there are few, and one that broke unseen would
/// cost the operator its time-out.
#[derive(Debug)]
pub(crate) struct Writer {
    access: Access,
    names: Names,
}

/// Why a write was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteError {
    /// The wishes are others than at the revision that was given; by this one they are.
    Changed(i64),
    /// No member could do it, and none has.
    Away(String),
    /// No member said that it did, and one may have.
    Doubt(String),
}

impl Writer {
    pub(super) fn new(store: EtcdStore) -> Self {
        let names = Names::new(&store.prefix);
        Self {
            access: Access::new(store.cluster),
            names,
        }
    }

    /// Does all of `edits` or none, if no wish was put since `base`. Returns the revision that has them, or 0 where
    /// there was nothing to be done.
    ///
    /// # Errors
    /// Why not. Only in [`WriteError::Doubt`] it may be done all the same.
    /// `member` is asked first: the one that answers us now.
    pub(crate) async fn write(
        &self,
        edits: &[Edit],
        base: Option<i64>,
        member: Option<&str>,
    ) -> Result<i64, WriteError> {
        let transaction = self.transaction(edits, base).map_err(WriteError::Away)?;
        let mut errors = Tries::default();
        let tries = self.try_members(&transaction, edits, member, &mut errors);
        match tokio::time::timeout(WRITE_LIMIT, tries).await {
            Ok(Some(done)) => done,
            Ok(None) => Err(errors.end()),
            Err(_elapsed) => {
                errors.add(LinkError {
                    why: format!("not done within {WRITE_LIMIT:?}"),
                    is_in_doubt: true,
                });
                Err(errors.end())
            }
        }
    }

    async fn try_members(
        &self,
        transaction: &TxnRequest,
        edits: &[Edit],
        first: Option<&str>,
        errors: &mut Tries,
    ) -> Option<Result<i64, WriteError>> {
        let (firsts, others): (Vec<_>, Vec<_>) =
            (self.access.members().iter()).partition(|member| Some(member.as_str()) == first);
        for member in firsts.into_iter().chain(others) {
            let done = match self.access.open(member).await {
                Ok(link) => {
                    let done = self.commit(&link, transaction.clone()).await;
                    done.map_err(|error| LinkError {
                        why: format!("{member}: {}", error.why),
                        ..error
                    })
                }
                Err(error) => Err(error),
            };
            match done {
                Ok((_, done)) if is_nothing(edits, &done) => return Some(Ok(0)),
                Ok((revision, done)) if done.succeeded => return Some(Ok(revision)),
                // An earlier try may have been done though nobody said so.
                Ok((revision, done)) if self.is_done(edits, &done) => return Some(Ok(revision)),
                Ok((revision, _)) => {
                    return Some(Err(WriteError::Changed(revision)));
                }
                Err(error) => errors.add(error),
            }
        }
        None
    }

    async fn commit(&self, link: &Link, transaction: TxnRequest) -> Result<(i64, TxnResponse), LinkError> {
        let (past, done) = link.transact(transaction).await?;
        Ok((past.revision, done))
    }

    fn transaction(&self, edits: &[Edit], base: Option<i64>) -> Result<TxnRequest, String> {
        let (key, range_end) = self.names.wishes();
        let compare = base.map(|base| Compare {
            result: CompareResult::Less.into(),
            target: CompareTarget::Mod.into(),
            key,
            target_union: Some(TargetUnion::ModRevision(base.saturating_add(1))),
            range_end,
        });
        let success: Result<Vec<_>, _> = edits.iter().map(|edit| self.operation(edit)).collect();
        let look = edits.iter().map(|edit| {
            operation(request_op::Request::RequestRange(RangeRequest {
                key: self.key(edit),
                ..RangeRequest::default()
            }))
        });
        Ok(TxnRequest {
            compare: compare.into_iter().collect(),
            success: success?,
            failure: look.collect(),
        })
    }

    fn key(&self, edit: &Edit) -> Vec<u8> {
        match edit {
            Edit::Put(wish) => self.names.wish(&wish.key()),
            Edit::Remove(key) => self.names.wish(key),
        }
    }

    fn operation(&self, edit: &Edit) -> Result<RequestOp, String> {
        let key = self.key(edit);
        Ok(operation(match edit {
            Edit::Put(wish) => request_op::Request::RequestPut(PutRequest {
                key,
                value: wish.to_bytes().map_err(|error| error.to_string())?,
                lease: 0,
            }),
            Edit::Remove(_) => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                range_end: Vec::new(),
            }),
        }))
    }

    /// Whether what a refused transaction found is what it was to make.
    fn is_done(&self, edits: &[Edit], found: &TxnResponse) -> bool {
        edits.len() == found.responses.len()
            && edits.iter().zip(&found.responses).all(|(edit, found)| {
                let Some(response_op::Response::ResponseRange(range)) = &found.response else {
                    return false;
                };
                let there = range.kvs.first().map(|kv| StoredWish::from_bytes(&kv.value).ok());
                match edit {
                    Edit::Put(wish) => there.flatten().as_ref() == Some(wish),
                    Edit::Remove(_) => there.is_none(),
                }
            })
    }
}

/// Whether a transaction found nothing of what it was to remove. Then no event follows it.
fn is_nothing(edits: &[Edit], done: &TxnResponse) -> bool {
    let is_removal = |edit: &Edit| matches!(edit, Edit::Remove(_));
    let is_idle = |one: &super::proto::ResponseOp| matches!(&one.response, Some(response_op::Response::ResponseDeleteRange(range)) if range.deleted == 0);
    done.succeeded && edits.iter().all(is_removal) && done.responses.iter().all(is_idle)
}

/// A wish goes, if nobody has written it since.
pub(super) fn removal(key: Vec<u8>, revision: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![compare(
            &key,
            CompareTarget::Mod,
            TargetUnion::ModRevision(revision),
        )],
        success: vec![operation(request_op::Request::RequestDeleteRange(
            DeleteRangeRequest {
                key,
                range_end: Vec::new(),
            },
        ))],
        failure: Vec::new(),
    }
}

/// A wish comes, if there is none under its key.
pub(super) fn addition(key: Vec<u8>, value: Vec<u8>) -> TxnRequest {
    TxnRequest {
        compare: vec![compare(
            &key,
            CompareTarget::Create,
            TargetUnion::CreateRevision(0),
        )],
        success: vec![operation(request_op::Request::RequestPut(PutRequest {
            key,
            value,
            lease: 0,
        }))],
        failure: Vec::new(),
    }
}

fn compare(key: &[u8], target: CompareTarget, value: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.to_vec(),
        target_union: Some(value),
        range_end: Vec::new(),
    }
}

fn operation(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// What the members said.
#[derive(Debug, Default)]
struct Tries {
    whys: Vec<String>,
    is_in_doubt: bool,
}

impl Tries {
    fn add(&mut self, error: LinkError) {
        self.is_in_doubt |= error.is_in_doubt;
        self.whys.push(error.why);
    }

    fn end(&self) -> WriteError {
        let why = format!("the store of the fleet is away ({})", self.whys.join("; "));
        if self.is_in_doubt {
            WriteError::Doubt(why)
        } else {
            WriteError::Away(why)
        }
    }
}
