//! The verdict can fail: what is missing or double in the ledger is counted, and is exit code 1.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use steer_tests::steer_binary;

use crate::postgres;
use crate::processes::Process;

/// Three charges of 5 cents that were acknowledged, with the numbers 1 to 3.
const KEYS: [&str; 3] = ["k1", "k2", "k3"];

fn journal(folder: &tempfile::TempDir) -> PathBuf {
    let mut text = String::new();
    for (number, key) in KEYS.iter().enumerate() {
        let receipt = number + 1;
        writeln!(
            text,
            r#"{{"event":"begun","key":"{key}","at_us":0,"account":"a","amount":5}}"#
        )
        .unwrap();
        writeln!(
            text,
            r#"{{"event":"acked","key":"{key}","at_us":900,"receipt":{receipt},"tries":1,"replayed":false}}"#
        )
        .unwrap();
    }
    let path = folder.path().join("client.journal");
    std::fs::write(&path, text).unwrap();
    path
}

/// The last line, and the exit code.
fn verdict(database: &str, journal: &PathBuf) -> (String, Option<i32>) {
    let output = Command::new(steer_binary())
        .args(["lab", "shop", "verdict", "--database", database])
        .arg(journal)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    (
        said.lines().last().unwrap_or_default().to_owned(),
        output.status.code(),
    )
}

async fn sql(database: &str, statements: &str) {
    let (sql, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    sql.batch_execute(statements).await.unwrap();
    drop(sql);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_charge_that_is_missing_or_double_in_the_ledger_is_counted_and_is_exit_code_1() {
    let Some(cluster) = postgres::shared("the verdict on charges") else {
        return;
    };
    let database = cluster.database();
    Process::services("127.0.0.1:0", &database).kill(); // it has made the tables
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(&folder);
    for key in KEYS {
        let line = format!("INSERT INTO ledger (key, epoch, account, amount) VALUES ('{key}', 1, 'a', 5)");
        sql(&database, &line).await;
    }
    sql(&database, "INSERT INTO account VALUES ('a', 999999985)").await;
    let right = ("3 charged, 0 lost, 0 double".to_owned(), Some(0));
    assert_eq!(verdict(&database, &journal), right);

    // The sums still hold; only the keys tell.
    let double = "INSERT INTO ledger (key, epoch, account, amount) VALUES ('k3', 2, 'a', 5);
        UPDATE account SET balance = balance - 5";
    sql(&database, double).await;
    let wrong = ("3 charged, 0 lost, 1 double".to_owned(), Some(1));
    assert_eq!(verdict(&database, &journal), wrong);

    let missing = "DELETE FROM ledger WHERE key = 'k2'; UPDATE account SET balance = balance + 5";
    sql(&database, missing).await;
    let wrong = ("3 charged, 1 lost, 1 double".to_owned(), Some(1));
    assert_eq!(verdict(&database, &journal), wrong);

    sql(
        &database,
        "DELETE FROM ledger WHERE receipt = 4; UPDATE account SET balance = balance + 5",
    )
    .await;
    let wrong = ("3 charged, 1 lost, 0 double".to_owned(), Some(1));
    assert_eq!(verdict(&database, &journal), wrong);

    // All lines, and a cent too little on the account.
    let cent = "INSERT INTO ledger (receipt, key, epoch, account, amount) OVERRIDING SYSTEM VALUE
        VALUES (2, 'k2', 1, 'a', 5); UPDATE account SET balance = balance - 6";
    sql(&database, cent).await;
    let wrong = ("3 charged, 0 lost, 0 double".to_owned(), Some(1));
    assert_eq!(verdict(&database, &journal), wrong);
}

#[test]
fn a_journal_with_a_hole_is_no_witness() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.journal");
    std::fs::write(&path, "{\"event\":\"begun\",\"key\":\"k1\"\n").unwrap();
    let (_, code) = verdict("host=/nowhere", &path);
    assert_eq!(code, Some(1));
}
