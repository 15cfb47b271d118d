//! Every `tests/faults/*.toml` gives exactly the messages of the `.expected` file beside it.
//! `UPDATE_GOLDEN=1` writes those files anew; look at the difference before committing it.

use std::fs;

use steer_topology::{Fleet, fault::Place};

use crate::support::{Hosts, folder};

#[test]
fn every_bad_file_gives_one_message_per_fault_with_place_value_and_remedy() {
    let mut files: Vec<_> = fs::read_dir(folder("faults"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() > 30, "{files:?}");
    let mut wrong = String::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let faults = Fleet::load(&file, &Hosts).expect_err(&file.display().to_string());
        for fault in &faults.0 {
            let place = fault.place.as_ref().expect("every fault here has a place");
            assert_eq!(*place, Place::of(&text, place.span.clone()), "{fault}");
            assert!(!fault.message.is_empty() && !fault.remedy.is_empty(), "{fault}");
        }
        let starts: Vec<usize> = faults
            .0
            .iter()
            .map(|fault| fault.place.as_ref().unwrap().span.start)
            .collect();
        assert!(starts.is_sorted(), "{faults}");
        let golden = file.with_extension("expected");
        let told = format!("{faults}\n");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &told).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if told != expected {
            wrong.push_str(&format!("--- {}\n{expected}+++ now\n{told}\n", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
