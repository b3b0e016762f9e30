//! What the connection tracker counts: how full its table is, and what it could not do.

use lockstep_ctnetlink::{Header, Kind, Messages};
use netlink_packet_core::NlasIterator;

use super::{TableError, TableSocket};

/// The connection tracker's counters for this network namespace, of all processors together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Flows in the table.
    pub entries: u32,
    /// Most flows in the table (`nf_conntrack_max`, for all namespaces alike); 0: no limit.
    pub limit: u32,
    /// Lookups that found a flow.
    pub found: u64,
    /// Packets that no flow could be made of.
    pub invalid: u64,
    /// Flows that packets have made.
    pub insert: u64,
    /// Flows that packets could not make, because another had a tuple of theirs.
    pub insert_failed: u64,
    /// Packets dropped because no flow could be made: the table was full, or memory was.
    pub drop: u64,
    /// Flows removed before their time to make room in a full table.
    pub early_drop: u64,
    /// Packets with an error, or about one, that belongs to no flow.
    pub error: u64,
    /// Lookups begun again because the table was being resized.
    pub search_restart: u64,
    /// Clashes of two packets of one flow that were resolved.
    pub clash_resolve: u64,
    /// Flows refused because a chain of the hash table was too long.
    pub chain_too_long: u64,
}

impl Statistics {
    /// Whether there is no room for another flow, so that a request for one is refused with
    /// `ENOMEM`.
    pub fn is_full(&self) -> bool {
        self.limit > 0 && self.entries >= self.limit
    }

    /// Adds what one processor has counted (`CTA_STATS_*`).
    fn add(&mut self, kind: u16, count: u64) {
        let counter = match kind {
            2 => &mut self.found,
            4 => &mut self.invalid,
            8 => &mut self.insert,
            9 => &mut self.insert_failed,
            10 => &mut self.drop,
            11 => &mut self.early_drop,
            12 => &mut self.error,
            13 => &mut self.search_restart,
            14 => &mut self.clash_resolve,
            15 => &mut self.chain_too_long,
            // What kernels before 4.10 counted.
            _ => return,
        };
        *counter += count;
    }
}

/// `IPCTNL_MSG_CT_DELETE`, `_GET_STATS_CPU` and `_GET_STATS` with their subsystem.
const DELETE: u16 = 1 << 8 | 2;
const COUNTERS: u16 = 1 << 8 | 4;
const FILL: u16 = 1 << 8 | 5;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
/// The netlink header and `struct nfgenmsg`.
const HEADERS: usize = Header::LENGTH + 4;

impl TableSocket {
    /// Reads the counters. Takes a system call and one more for each processor.
    pub fn statistics(&mut self) -> Result<Statistics, TableError> {
        let mut statistics = Statistics::default();
        self.read_fill(&mut statistics)?;
        let sequence = self.take_sequences(1);
        self.send("read", &request(COUNTERS, DUMP, sequence))?;
        self.dumping = true;
        self.dump_sequence = sequence;
        let mut buffer = Vec::new();
        while self.read_part(&mut buffer)? {
            for (header, attributes) in contents(&buffer) {
                if (header.message_type, header.sequence) == (COUNTERS, sequence) {
                    numbers(attributes).for_each(|(kind, count)| {
                        statistics.add(kind, u64::from(count));
                    });
                }
            }
        }
        Ok(statistics)
    }

    /// Removes every flow of the network namespace, whoever made it.
    pub fn flush(&mut self) -> Result<(), TableError> {
        let sequence = self.take_sequences(1);
        self.send("change", &request(DELETE, ACKNOWLEDGE, sequence))?;
        loop {
            self.receive_answers("change")?;
            for message in Messages::new(&self.answers) {
                let message = message?;
                match message.kind()? {
                    Kind::Answer(answer) if message.header().sequence == sequence => {
                        return match answer.errno {
                            0 => Ok(()),
                            _ => Err(TableError::refused(answer)),
                        };
                    }
                    _ => {}
                }
            }
        }
    }

    fn read_fill(&mut self, statistics: &mut Statistics) -> Result<(), TableError> {
        let sequence = self.take_sequences(1);
        self.send("read", &request(FILL, 0, sequence))?;
        loop {
            self.receive_answers("read")?;
            for message in Messages::new(&self.answers) {
                let message = message?;
                if let Kind::Answer(answer) = message.kind()?
                    && message.header().sequence == sequence
                {
                    return Err(TableError::refused(answer));
                }
            }
            for (header, attributes) in contents(&self.answers) {
                if (header.message_type, header.sequence) != (FILL, sequence) {
                    continue;
                }
                for (kind, number) in numbers(attributes) {
                    match kind {
                        1 => statistics.entries = number,
                        2 => statistics.limit = number,
                        _ => {}
                    }
                }
                return Ok(());
            }
        }
    }
}

/// A request that has nothing but a type, for both families.
fn request(message_type: u16, flags: u16, sequence: u32) -> [u8; HEADERS] {
    let mut bytes = [0; HEADERS];
    bytes[..4].copy_from_slice(&(HEADERS as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&message_type.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes
}

/// The header and the attributes of each message.
fn contents(buffer: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut rest = buffer;
    Messages::new(buffer).map_while(Result::ok).map(move |message| {
        let header = message.header();
        let length = header.length as usize;
        let attributes = rest.get(HEADERS..length).unwrap_or_default();
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        (header, attributes)
    })
}

/// The attributes that are numbers.
fn numbers(attributes: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    NlasIterator::new(attributes).map_while(Result::ok).filter_map(|attribute| {
        Some((attribute.kind(), u32::from_be_bytes(attribute.value().try_into().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_full_when_it_has_reached_its_limit_if_it_has_one() {
        let full =
            |entries, limit| Statistics { entries, limit, ..Statistics::default() }.is_full();
        assert!(full(10, 10) && full(11, 10));
        assert!(!full(9, 10) && !full(1000, 0));
    }

    #[test]
    fn counters_of_all_processors_are_added_and_unknown_ones_are_skipped() {
        let mut statistics = Statistics::default();
        for kind in 0..=20 {
            statistics.add(kind, 1);
            statistics.add(kind, u64::from(u32::MAX));
        }
        let both = 1 << 32;
        assert_eq!(
            statistics,
            Statistics {
                found: both,
                invalid: both,
                insert: both,
                insert_failed: both,
                drop: both,
                early_drop: both,
                error: both,
                search_restart: both,
                clash_resolve: both,
                chain_too_long: both,
                ..Statistics::default()
            }
        );
    }

    #[test]
    fn no_bytes_at_all_are_taken_for_more_than_they_are() {
        for length in 0..64 {
            for byte in [0, 1, 4, 20, 0xff] {
                let buffer = vec![byte; length];
                let all = contents(&buffer).flat_map(|(_, attributes)| numbers(attributes));
                assert!(all.count() <= length / 8);
            }
        }
    }
}
