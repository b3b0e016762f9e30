//! Many flows looked up at once.

use lockstep_ctnetlink::{Flow, Key, Kind, Messages, get};

use super::{TableError, TableSocket};

/// Most flows looked up by one system call: all answers must fit the receive buffer at once.
const AT_ONCE: usize = 128;

impl TableSocket {
    /// Looks flows up, many with one system call, and tells of each what the kernel has; `None`
    /// when it has no such flow. The number is the key's place in `keys`; the order is theirs.
    ///
    /// # Errors
    /// When the kernel refuses one for another reason than that there is none, or does not answer;
    /// those before it have been told.
    pub fn get_many(
        &mut self,
        keys: &[Key],
        mut each: impl FnMut(usize, Option<Flow>),
    ) -> Result<(), TableError> {
        let mut requests = Vec::new();
        for (number, part) in keys.chunks(AT_ONCE).enumerate() {
            let first = self.take_sequences(part.len());
            requests.clear();
            for (sequence, key) in (0..).zip(part) {
                get(&mut requests, key, first.wrapping_add(sequence));
            }
            self.send("read", &requests)?;
            let each = |index, flow| each(number * AT_ONCE + index, flow);
            self.receive_looked_up(first, part.len(), each)?;
        }
        Ok(())
    }

    /// Each request is answered once: by the flow or by an error number.
    fn receive_looked_up(
        &mut self,
        first: u32,
        count: usize,
        mut each: impl FnMut(usize, Option<Flow>),
    ) -> Result<(), TableError> {
        let mut answered = 0;
        while answered < count {
            self.receive_answers("read")?;
            for message in Messages::new(&self.answers) {
                let message = message?;
                let index = message.header().sequence.wrapping_sub(first) as usize;
                if index >= count {
                    continue;
                }
                let flow = match message.kind()? {
                    Kind::Entry | Kind::New | Kind::Update => Some(message.flow()?),
                    Kind::Answer(answer) if answer.errno == libc::ENOENT => None,
                    Kind::Answer(answer) => return Err(TableError::refused(answer)),
                    _ => continue,
                };
                answered += 1;
                each(index, flow);
            }
        }
        Ok(())
    }
}
