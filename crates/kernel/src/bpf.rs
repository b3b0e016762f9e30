//! Instructions of classic BPF, in which filters of sockets are written.

use socket2::SockFilter;

/// An instruction that goes on with the next one, or ends the program.
pub(crate) fn op(code: u32, operand: u32) -> SockFilter {
    jump(code, operand, 0, 0)
}

/// An instruction that skips so many others when it holds, and so many when it does not.
pub(crate) fn jump(code: u32, operand: u32, when_true: u8, when_false: u8) -> SockFilter {
    SockFilter::new(code as u16, when_true, when_false, operand)
}

/// Looks a number up in a set that has a bit for each: leaves the number of its word (of 32 bits) in
/// the accumulator, where it was itself, and that of its bit in the index register. Needs the first
/// place of the store.
pub(crate) fn place_in_set() -> [SockFilter; 5] {
    [op(STORE, 0), op(AND, 31), op(COPY_TO_X, 0), op(LOAD_STORED, 0), op(SHIFT_RIGHT, 5)]
}

pub(crate) const LOAD: u32 = libc::BPF_LD | libc::BPF_IMM;
pub(crate) const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
pub(crate) const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
pub(crate) const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
pub(crate) const LOAD_BYTE_AT_X: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
pub(crate) const LOAD_WORD_AT_X: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
pub(crate) const LOAD_STORED: u32 = libc::BPF_LD | libc::BPF_MEM;
pub(crate) const LOAD_X: u32 = libc::BPF_LDX | libc::BPF_IMM;
/// Four times the low half of the byte at the operand.
pub(crate) const LOAD_X_IPV4_HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
pub(crate) const STORE: u32 = libc::BPF_ST;
pub(crate) const COPY_TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
pub(crate) const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
pub(crate) const ADD: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K;
pub(crate) const ADD_X: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X;
pub(crate) const SHIFT_LEFT: u32 = libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K;
pub(crate) const SHIFT_RIGHT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
pub(crate) const SHIFT_RIGHT_X: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_X;
pub(crate) const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
pub(crate) const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
pub(crate) const JUMP_EQUAL_X: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X;
pub(crate) const JUMP_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
pub(crate) const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// What a program returns of a packet that passes whole.
pub(crate) const EVERYTHING: u32 = u32::MAX;
/// What it returns of one that does not pass.
pub(crate) const NOTHING: u32 = 0;
