// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The line is shared with others and loses bytes: what survives of the records.

use guest_agent::wire::{
    AckPlace, Answer, Decoder, ErrnoCount, Event, Failure, FailureKind, FromGuest, Item, LoadKind,
    LoadReport, LoadSpec, MARK, Order, Outcome, Step, ThreadReport, encode,
};
use proptest::prelude::*;
use proptest::sample::Index;

fn orders() -> impl Strategy<Value = Order> {
    let text = ".{0,40}";
    let step = prop_oneof![
        Just(Step::Status),
        any::<Option<u64>>().prop_map(|order| Step::Stop { order }),
        (prop::collection::vec(text, 1..4), any::<u64>(), text).prop_map(
            |(argv, timeout_ms, stdin)| Step::Tool {
                argv,
                timeout_ms,
                stdin
            }
        ),
        (text, 1..64u32, any::<u64>(), text).prop_map(|(device, threads, seed, name)| {
            let kind = LoadKind::Raw { device };
            let mut spec = LoadSpec::new(kind, threads, 9, seed);
            spec.ack = Some(AckPlace {
                device: "#1".to_owned(),
                offset: 4096,
            });
            Step::LoadStart { name, spec }
        }),
    ];
    (any::<u64>(), step).prop_map(|(id, step)| Order { id, step })
}

/// A piece of the line.
#[derive(Clone, Debug)]
enum Piece {
    /// A whole record.
    Whole(Order),
    /// A record that lost its end, from this place on.
    Cut(Order, Index),
    /// A record with kernel text in the middle.
    Mixed(Order, Index, String),
    /// A record with one byte changed.
    Flipped(Order, Index, u8),
    /// A line of the kernel.
    Text(String),
}

fn pieces() -> impl Strategy<Value = Piece> {
    let text = "[ -~]{0,60}";
    prop_oneof![
        3 => orders().prop_map(Piece::Whole),
        1 => (orders(), any::<Index>()).prop_map(|(order, at)| Piece::Cut(order, at)),
        1 => (orders(), any::<Index>(), "[!-~]{1,60}").prop_map(|(o, at, text)| Piece::Mixed(o, at, text)),
        1 => (orders(), any::<Index>(), 1u8..).prop_map(|(order, at, bits)| Piece::Flipped(order, at, bits)),
        2 => text.prop_map(Piece::Text),
    ]
}

proptest! {
    #[test]
    fn whole_records_arrive_whatever_is_around_them(
        line in prop::collection::vec(pieces(), 0..20),
        cuts in prop::collection::vec(1usize..200, 1..50),
    ) {
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for (seq, piece) in (1..).zip(&line) {
            match piece {
                Piece::Whole(order) => {
                    bytes.extend(encode(seq, order).unwrap());
                    sent.push((seq, order.clone()));
                }
                Piece::Cut(order, at) => {
                    let record = encode(seq, order).unwrap();
                    bytes.extend(&record[..at.index(record.len() - 1)]);
                }
                Piece::Mixed(order, at, text) => {
                    let record = encode(seq, order).unwrap();
                    // After the mark and before the line feed.
                    let at = 1 + at.index(record.len() - 2);
                    bytes.extend(&record[..at]);
                    bytes.extend(text.as_bytes());
                    bytes.extend(&record[at..]);
                }
                Piece::Flipped(order, at, bits) => {
                    let mut record = encode(seq, order).unwrap();
                    let at = at.index(record.len());
                    record[at] ^= bits;
                    bytes.extend(record);
                    // A flipped line feed would join it with the next line.
                    bytes.push(b'\n');
                }
                Piece::Text(text) => {
                    bytes.extend(text.as_bytes());
                    bytes.push(b'\n');
                }
            }
        }
        let mut decoder = Decoder::<Order>::new();
        let mut items = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            items.extend(decoder.push(piece));
            rest = after;
        }
        items.extend(decoder.finish());
        let got: Vec<_> = items
            .into_iter()
            .filter_map(|item| match item {
                Item::Record { seq, body } => Some((seq, body)),
                Item::Text(_) | Item::Damaged { .. } => None,
            })
            .collect();
        // Each whole one arrives, once and in order; none is made up or changed.
        let extra: Vec<_> = got.iter().filter(|one| !sent.contains(one)).collect();
        let harmless = extra.iter().all(|(seq, order)| {
            line.get(usize::try_from(*seq).unwrap() - 1).is_some_and(|piece| match piece {
                // Text that came between two tokens of JSON is none of those; a byte may flip to
                // another spelling of the same (a space for a tab) and change nothing.
                Piece::Mixed(same, ..) | Piece::Flipped(same, ..) | Piece::Cut(same, _) => same == order,
                Piece::Whole(_) | Piece::Text(_) => false,
            })
        });
        prop_assert!(harmless, "{extra:?}");
        let whole: Vec<_> = got.into_iter().filter(|one| sent.contains(one)).collect();
        prop_assert_eq!(whole, sent);
    }
}

#[test]
fn a_changed_byte_of_the_body_is_damage_even_if_it_is_still_json() {
    let order = Order {
        id: 12,
        step: Step::Umount {
            path: "/mnt".to_owned(),
        },
    };
    let bytes = encode(1, &order).unwrap();
    let text = String::from_utf8(bytes).unwrap().replace("/mnt", "/mnu");
    let items = Decoder::<Order>::new().push(text.as_bytes());
    assert!(
        matches!(&items[..], [Item::Damaged { why, .. }] if why.contains("checksum")),
        "{items:?}"
    );
}

#[test]
fn a_changed_sequence_number_is_damage() {
    let order = Order {
        id: 12,
        step: Step::Status,
    };
    let text = String::from_utf8(encode(1, &order).unwrap()).unwrap();
    let items = Decoder::<Order>::new().push(text.replace("\"seq\":1", "\"seq\":2").as_bytes());
    assert!(matches!(&items[..], [Item::Damaged { .. }]), "{items:?}");
}

#[test]
fn a_record_that_is_cut_by_the_next_one_is_damaged_and_the_next_is_whole() {
    let order = Order {
        id: 1,
        step: Step::Sync,
    };
    let record = encode(1, &order).unwrap();
    let mut line = record[..10].to_vec();
    line.extend(&record);
    let items = Decoder::<Order>::new().push(&line);
    assert!(
        matches!(&items[..], [Item::Damaged { .. }, Item::Record { .. }]),
        "{items:?}"
    );
}

#[test]
fn what_the_guest_says_comes_back_as_it_was() {
    let report = LoadReport {
        name: "load".to_owned(),
        threads: vec![ThreadReport {
            errors: vec![ErrnoCount { errno: 5, count: 3 }],
            first_error: Some("fsync: \u{1e} and \n are escaped".to_owned()),
            ..ThreadReport::default()
        }],
        ..LoadReport::default()
    };
    let answer = |result| {
        FromGuest::Answer(Answer {
            id: u64::MAX,
            elapsed_us: 3,
            result,
        })
    };
    for record in [
        answer(Ok(Outcome::Load(report.clone()))),
        answer(Ok(Outcome::Done)),
        answer(Err(Failure {
            kind: FailureKind::System,
            message: "no".to_owned(),
            errno: Some(-1),
        })),
        FromGuest::Event(Event::LoadEnded { report }),
        FromGuest::Accepted { id: 0 },
    ] {
        let bytes = encode(9, &record).unwrap();
        assert_eq!(bytes.iter().filter(|&&byte| byte == MARK).count(), 1);
        let items = Decoder::<FromGuest>::new().push(&bytes);
        assert_eq!(
            items,
            [Item::Record {
                seq: 9,
                body: record
            }]
        );
    }
}
