//! A charge that is done once per key: account, ledger, answer and event in one transaction.

use std::time::Instant;

use prost::Message as _;
use steer_rpc::fate::{Code, Deadline, FATE_HEADER, TIMEOUT_HEADER, parse_timeout};
use steer_rpc::key::{
    Answer, Claim, Handled, Handler, IdempotencyKey, KEY_HEADER, KeyedCall, Message, Postgres, PostgresClaim,
    REPLAYED_HEADER, Reply, StoreError, Terms, serve,
};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use crate::generated::shop::payment_service_server::PaymentService;
use crate::generated::shop::{ChargeReply, ChargeRequest};

/// Of the proto.
pub(crate) const METHOD: &str = "/shop.PaymentService/Charge";

/// The ledger has no unique key on purpose: what keeps a charge single is the idempotency key, and tests count.
const TABLES: &str = "
SELECT pg_advisory_xact_lock(1);
CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
    receipt bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key     text   NOT NULL,
    epoch   bigint NOT NULL,
    account text   NOT NULL,
    amount  bigint NOT NULL
);
";

/// Account and ledger in one round trip; no row where the account has not enough.
const CHARGE: &str = "
WITH charged AS (
    INSERT INTO account AS known SELECT $1, $2 - $3 WHERE $2 >= $3
    ON CONFLICT (name) DO UPDATE SET balance = known.balance - $3 WHERE known.balance >= $3
    RETURNING balance
), written AS (
    INSERT INTO ledger (key, epoch, account, amount) SELECT $4, $5, $1, $3 FROM charged RETURNING receipt
)
SELECT receipt, balance FROM written, charged
";

/// Sessions with PostgreSQL.
const SESSIONS: usize = 16;

/// What an account has that is charged for the first time, in cents.
pub(crate) const OPENING: i64 = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct Payments {
    store: Postgres,
}

impl Payments {
    pub(crate) async fn open(config: &str) -> Result<Self, StoreError> {
        Postgres::make_tables(config).await?;
        let store = Postgres::connect(config, SESSIONS, Terms::default()).await?;
        let made = store.session().await?.as_ref().batch_execute(TABLES).await;
        made.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { store })
    }
}

/// One charge.
struct Charge {
    key: String,
    request: ChargeRequest,
}

impl Handler<PostgresClaim> for Charge {
    async fn run(&mut self, claim: &mut PostgresClaim) -> Handled {
        let epoch = i64::try_from(claim.epoch().0).unwrap_or(i64::MAX);
        let sql = match claim.transaction().await {
            Ok(sql) => sql,
            Err(error) => return Handled::Failed(error),
        };
        match self.charge(sql, epoch).await {
            Ok(handled) => handled,
            Err(error) => Handled::Failed(StoreError::Unavailable(error.to_string())),
        }
    }
}

impl Charge {
    async fn charge(&self, sql: &Client, epoch: i64) -> Result<Handled, tokio_postgres::Error> {
        let ChargeRequest { account, amount } = &self.request;
        let amount = i64::try_from(*amount).unwrap_or(i64::MAX);
        let values: [(&(dyn ToSql + Sync), Type); 5] = [
            (account, Type::TEXT),
            (&OPENING, Type::INT8),
            (&amount, Type::INT8),
            (&self.key, Type::TEXT),
            (&epoch, Type::INT8),
        ];
        let charged = sql.query_typed(CHARGE, &values).await?;
        let Some(charged) = charged.first() else {
            // The same next time, so it is kept: who comes again with this key hears it again.
            let refusal = Answer::refusal(Code::FailedPrecondition, "the account has not enough");
            return Ok(Handled::Keep(refusal, Vec::new()));
        };
        let reply = ChargeReply {
            receipt: charged.try_get(0)?,
            balance: charged.try_get(1)?,
        };
        let event = Message {
            subject: "shop.charged".to_owned(),
            partition: account.clone(),
            payload: reply.encode_to_vec(),
        };
        Ok(Handled::Keep(Answer::ok(reply.encode_to_vec()), vec![event]))
    }
}

#[tonic::async_trait]
impl PaymentService for Payments {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<ChargeReply>, Status> {
        let now = Instant::now();
        let (metadata, _, request) = request.into_parts();
        let key = metadata
            .get(KEY_HEADER)
            .map(MetadataValue::as_bytes)
            .unwrap_or_default();
        let key = IdempotencyKey::parse(key).map_err(|error| Status::invalid_argument(error.to_string()))?;
        // Gap: the shop has no clients that prove who they are.
        let call = KeyedCall::new("anyone", METHOD, key.clone(), &request.encode_to_vec())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut charge = Charge {
            key: key.to_string(),
            request,
        };
        let reply = serve(&self.store, &call, deadline(&metadata, now)?, &mut charge).await;
        answer(reply)
    }
}

fn deadline(metadata: &MetadataMap, now: Instant) -> Result<Deadline, Status> {
    let asked = metadata
        .get(TIMEOUT_HEADER)
        .map(|value| parse_timeout(value.as_bytes()));
    let asked = asked
        .transpose()
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(Deadline::of(asked, None, now))
}

fn answer(reply: Reply) -> Result<Response<ChargeReply>, Status> {
    let Reply {
        answer,
        replayed,
        fate,
    } = reply;
    let mut marks = MetadataMap::new();
    if replayed {
        marks.insert(REPLAYED_HEADER, MetadataValue::from_static("true"));
    }
    if answer.code != Code::Ok {
        marks.insert(FATE_HEADER, MetadataValue::from_static(fate.name()));
        let code = tonic::Code::from(i32::from(answer.code.number()));
        return Err(Status::with_metadata(code, answer.message, marks));
    }
    let reply = ChargeReply::decode(answer.body).map_err(|error| Status::internal(error.to_string()))?;
    let mut response = Response::new(reply);
    *response.metadata_mut() = marks;
    Ok(response)
}
