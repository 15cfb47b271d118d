//! Several slates around one cluster.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::super::{News, Slate};
use super::*;

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One process: what it says, and all that it has heard.
struct Speaker {
    says: watch::Sender<Vec<u8>>,
    news: mpsc::Receiver<News>,
    heard: BTreeMap<String, String>,
    lost: usize,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Speaker {
    fn start(members: &[String], name: &str, lease: Duration) -> Self {
        let (says, words) = watch::channel(Vec::new());
        let (tell, news) = mpsc::channel(64);
        let (stop, stopped) = oneshot::channel::<()>();
        let slate = Slate::new(reach(members), "/steer/words/", name, lease, 1);
        let stopped = async { drop(stopped.await) };
        Self {
            says,
            news,
            heard: BTreeMap::new(),
            lost: 0,
            stop,
            task: tokio::spawn(slate.run(words, tell, stopped)),
        }
    }

    fn say(&self, word: &str) {
        self.says.send_replace(word.as_bytes().to_vec());
    }

    async fn hear(&mut self) {
        let news = tokio::time::timeout(PATIENCE, self.news.recv()).await;
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        match news.expect("there are news").unwrap() {
            News::All(all) => self.heard = all.into_iter().map(|(name, value)| (name, text(value))).collect(),
            News::Put(name, value) => drop(self.heard.insert(name, text(value))),
            News::Gone(name) => drop(self.heard.remove(&name)),
            News::Lost(_) => self.lost += 1,
        }
    }

    async fn until(&mut self, want: &[(&str, &str)]) {
        let want: BTreeMap<_, _> = want.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect();
        while self.heard != want {
            self.hear().await;
        }
    }

    async fn end(self) {
        drop(self.news); // nothing is heard any more
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn each_hears_the_newest_word_of_all_and_that_one_has_left() {
    let Some(cluster) = Cluster::start(1) else { return };
    let lease = Duration::from_secs(60);
    let mut fra = Speaker::start(&cluster.members(), "fra", lease);
    fra.say("one");
    fra.until(&[("fra", "one")]).await;
    let mut nrt = Speaker::start(&cluster.members(), "nrt", lease);
    nrt.until(&[("fra", "one")]).await;
    nrt.say("two");
    fra.say("three");
    for speaker in [&mut fra, &mut nrt] {
        speaker.until(&[("fra", "three"), ("nrt", "two")]).await;
    }
    if cluster.has_control() {
        assert!(cluster.control(&["put", "/steer/words0", "a key behind the prefix"]));
    }
    nrt.end().await;
    fra.until(&[("fra", "three")]).await;
    assert_eq!(fra.lost, 0);
    fra.end().await;
}

#[tokio::test]
async fn who_goes_without_a_word_is_gone_with_its_lease_and_who_stays_is_not() {
    let Some(cluster) = Cluster::start(1) else { return };
    let mut fra = Speaker::start(&cluster.members(), "fra", Duration::from_secs(2));
    let nrt = Speaker::start(&cluster.members(), "nrt", Duration::from_secs(2));
    fra.say("one");
    nrt.say("two");
    fra.until(&[("fra", "one"), ("nrt", "two")]).await;
    nrt.task.abort();
    fra.until(&[("fra", "one")]).await;
    // Its own lease is renewed, though it says nothing new.
    let more = tokio::time::timeout(Duration::from_secs(5), fra.news.recv()).await;
    assert!(more.is_err(), "{more:?}");
    fra.end().await;
}

#[tokio::test]
async fn while_the_cluster_is_away_there_are_no_news_and_then_all_is_heard_again() {
    let Some(mut cluster) = Cluster::start(1) else {
        return;
    };
    let lease = Duration::from_secs(60);
    let dead = format!("127.0.0.1:{}", cluster::free_port());
    let members = [&[dead][..], &cluster.members()].concat();
    let mut fra = Speaker::start(&members, "fra", lease);
    let mut nrt = Speaker::start(&members, "nrt", lease);
    fra.say("one");
    nrt.say("two");
    fra.until(&[("fra", "one"), ("nrt", "two")]).await;
    nrt.until(&[("fra", "one"), ("nrt", "two")]).await;
    cluster.kill();
    for speaker in [&mut fra, &mut nrt] {
        let before = speaker.lost;
        while speaker.lost < before + 3 {
            speaker.hear().await;
        }
    }
    fra.say("three");
    cluster.run();
    for speaker in [&mut fra, &mut nrt] {
        speaker.until(&[("fra", "three"), ("nrt", "two")]).await;
    }
    // Another cluster in its place knows no lease.
    cluster.kill();
    cluster.forget();
    cluster.run();
    for speaker in [&mut fra, &mut nrt] {
        let before = speaker.lost;
        while speaker.lost == before {
            speaker.hear().await;
        }
        speaker.until(&[("fra", "three"), ("nrt", "two")]).await;
    }
    cluster.kill();
    fra.end().await;
    nrt.end().await;
}
