//! "Did you mean": the known word nearest to a word that is not known.

/// Of longer lists only the first names are compared: a file may have as many wrong names as right ones.
const COMPARED: usize = 1_000;

/// The nearest of `known`, if it is near enough to be what was meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = fold(word);
    // A third of the letters may be wrong, and one always.
    let limit = (word.chars().count() / 3).max(1);
    let scored = known
        .into_iter()
        .take(COMPARED)
        .map(|candidate| (distance(&word, &fold(candidate)), candidate));
    scored
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Remedy for an unknown word: the nearest one, or all there are.
pub(crate) fn did_you_mean<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
    otherwise: &str,
) -> String {
    match nearest(word, known.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("{otherwise} {}", list(known)),
    }
}

/// "`a`, `b` and `c`"; long lists are cut, since nobody reads a hundred names.
pub(crate) fn list<'k>(words: impl IntoIterator<Item = &'k str>) -> String {
    const SHOWN: usize = 24;
    let words: Vec<&str> = words.into_iter().collect();
    let mut shown: Vec<String> = words.iter().take(SHOWN).map(|word| format!("`{word}`")).collect();
    if words.len() > SHOWN {
        shown.push(format!("{} more", words.len() - SHOWN));
    }
    match shown.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

fn distance(a: &str, b: &str) -> usize {
    // Long words cannot be near short ones; skip the quadratic work.
    if a.len().abs_diff(b.len()) > 16 {
        usize::MAX
    } else {
        strsim::osa_distance(a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_and_nonsense_finds_none() {
        let known = ["interval", "timeout", "fall", "rise"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("Time-Out", known), Some("timeout"));
        assert_eq!(nearest("fal", known), Some("fall"));
        assert_eq!(nearest("weight", known), None);
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(list([]), "none");
        assert_eq!(list(["a"]), "`a`");
        assert_eq!(list(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
