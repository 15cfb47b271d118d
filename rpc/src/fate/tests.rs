use super::*;

#[test]
fn a_fate_is_read_as_it_was_written_and_nothing_else_is_one() {
    for fate in Fate::ALL {
        assert_eq!(fate.to_string().parse(), Ok(fate));
    }
    for text in ["", "Committed", "lost", "not-sent "] {
        assert_eq!(text.parse::<Fate>(), Err(InvalidFate(text.to_owned())));
    }
}

#[test]
fn the_order_of_fates_is_by_how_much_may_have_happened() {
    assert!(Fate::ALL.is_sorted());
    let harmless: Vec<_> = Fate::ALL.into_iter().filter(|fate| fate.is_harmless()).collect();
    assert_eq!(harmless, [Fate::NotSent, Fate::Unprocessed]);
}
