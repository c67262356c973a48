//! Texts in the Huffman code of HPACK (RFC 7541, appendix B).
//!
//! The code is canonical: among the symbols of one length codes ascend with the symbols, and the first one
//! follows on the last of the length before. So the lengths say all.

/// How many bits each byte takes.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8,
    7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7,
    7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23,
    24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22,
    23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24,
    20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
    27, 27, 27, 26,
];

const LENGTH_MAX: usize = 30;

/// The code, by lengths.
struct Codes {
    /// All bytes, in the order of their codes.
    symbols: [u8; 256],
    /// The first code of each length.
    first: [u32; LENGTH_MAX + 2],
    /// How many symbols have shorter codes.
    shorter: [usize; LENGTH_MAX + 2],
}

const CODES: Codes = codes();

const fn codes() -> Codes {
    let mut codes =
        Codes { symbols: [0; 256], first: [0; LENGTH_MAX + 2], shorter: [0; LENGTH_MAX + 2] };
    let (mut length, mut code, mut count) = (1, 0, 0);
    while length < codes.first.len() {
        code <<= 1;
        codes.first[length] = code;
        codes.shorter[length] = count;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                codes.symbols[count] = symbol as u8;
                count += 1;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    codes
}

/// The byte with this code, if there is one of that length.
fn symbol(code: u32, length: usize) -> Option<u8> {
    let place = CODES.shorter[length] + code.checked_sub(CODES.first[length])? as usize;
    (place < CODES.shorter[length + 1]).then(|| CODES.symbols[place])
}

/// The text, if it is one.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(2 * bytes.len());
    let (mut code, mut length) = (0, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        match symbol(code, length) {
            Some(symbol) => {
                text.push(symbol);
                (code, length) = (0, 0);
            }
            None if length == LENGTH_MAX => return None,
            None => {}
        }
    }
    // The last byte is filled with ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 7541, appendix C.
    #[test]
    fn texts_are_read_as_the_standard_writes_them() {
        for (bytes, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
            (&[], ""),
        ] {
            assert_eq!(decode(bytes).as_deref(), Some(text.as_bytes()));
        }
    }

    /// Every byte has a code of its own, and all together leave nothing but the one that ends a text.
    #[test]
    fn the_code_is_complete() {
        let mut symbols = CODES.symbols;
        symbols.sort_unstable();
        assert!(symbols.iter().enumerate().all(|(place, &symbol)| place == symbol as usize));
        let taken: u64 = LENGTHS.iter().map(|&length| 1 << (LENGTH_MAX - length as usize)).sum();
        assert_eq!(taken, (1 << LENGTH_MAX) - 1);
    }

    #[test]
    fn nonsense_is_no_text() {
        // Filled with zeros, by a whole byte, and the code that ends a text.
        for bytes in [&[0b0001_1000][..], &[0xff], &[0x1f, 0xff], &[0xff; 4]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
