//! Bytes to values.

use serde::{
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{DEPTH_MAX, Failure, tag};

/// What is still to be read.
pub(super) struct Reader<'de> {
    rest: &'de [u8],
    /// Values that the next one stands in.
    depth: usize,
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Reader<'de> {
        Reader { rest: bytes, depth: 0 }
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(Failure(format!("{more} bytes behind it"))),
        }
    }

    fn take(&mut self, count: u64) -> Result<&'de [u8], Failure> {
        let taken = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count));
        let (taken, rest) = taken.ok_or_else(|| Failure("it ends too early".to_owned()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let taken = self.take(N as u64)?;
        Ok(taken.try_into().expect("as many as were asked for"))
    }

    fn tag(&mut self) -> Result<u8, Failure> {
        let [tag] = self.array()?;
        Ok(tag)
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Passes over the tag if it is the next.
    fn passes(&mut self, tag: u8) -> bool {
        let is_next = self.peek() == Some(tag);
        self.rest = &self.rest[usize::from(is_next)..];
        is_next
    }

    fn number(&mut self) -> Result<u64, Failure> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.tag()?;
            let part = u64::from(byte & 0x7F);
            if part << shift >> shift != part {
                break;
            }
            number |= part << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Failure("a number of more than 64 bits".to_owned()))
    }

    fn text(&mut self, tag: u8) -> Result<&'de str, Failure> {
        let length = match tag {
            tag::TEXT => self.number()?,
            tag::SHORT_TEXT..tag::SHORT_TEXT_END => u64::from(tag - tag::SHORT_TEXT),
            _ => return Err(Failure(format!("tag {tag:#04x} where a name is expected"))),
        };
        std::str::from_utf8(self.take(length)?).map_err(Failure::custom)
    }

    /// Reads what stands in another value.
    fn within<R>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        if self.depth == DEPTH_MAX {
            return Err(Failure(format!("more than {DEPTH_MAX} values within each other")));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Reads to the end of a list.
    fn list<R>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.within(|reader| {
            let result = read(reader)?;
            if reader.passes(tag::END) {
                return Ok(result);
            }
            Err(Failure("more in a list than is expected, or less".to_owned()))
        })
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.tag()? {
            small @ ..tag::SMALL_END => visitor.visit_u64(small.into()),
            tag::NONE => visitor.visit_none(),
            tag::SOME => self.within(|reader| visitor.visit_some(reader)),
            tag::UNIT => visitor.visit_unit(),
            tag::FALSE => visitor.visit_bool(false),
            tag::TRUE => visitor.visit_bool(true),
            tag::UNSIGNED => visitor.visit_u64(self.number()?),
            tag::NEGATIVE => {
                let below = i64::try_from(self.number()?);
                visitor.visit_i64(
                    !below.map_err(|_| Failure("a number below all of 64 bits".to_owned()))?,
                )
            }
            tag::U128 => visitor.visit_u128(u128::from_le_bytes(self.array()?)),
            tag::I128 => visitor.visit_i128(i128::from_le_bytes(self.array()?)),
            tag::F32 => visitor.visit_f32(f32::from_bits(u32::from_le_bytes(self.array()?))),
            tag::F64 => visitor.visit_f64(f64::from_bits(u64::from_le_bytes(self.array()?))),
            tag::CHAR => {
                let character = char::from_u32(u32::from_le_bytes(self.array()?));
                visitor.visit_char(character.ok_or_else(|| Failure("no character".to_owned()))?)
            }
            tag::BYTES => {
                let length = self.number()?;
                visitor.visit_borrowed_bytes(self.take(length)?)
            }
            tag::SEQUENCE => self.list(|reader| visitor.visit_seq(List(reader))),
            tag::MAP => self.list(|reader| visitor.visit_map(List(reader))),
            tag => visitor.visit_borrowed_str(self.text(tag)?),
        }
    }

    /// What was written before there was an option about it is `Some`.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.peek() {
            Some(tag::NONE | tag::SOME) => self.deserialize_any(visitor),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if self.passes(tag::MAP) {
            return self.list(|reader| visitor.visit_enum(WithContent(reader)));
        }
        let tag = self.tag()?;
        let name: StrDeserializer<'_, Failure> =
            serde::de::IntoDeserializer::into_deserializer(self.text(tag)?);
        visitor.visit_enum(name)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The values up to the end of a list.
struct List<'a, 'de>(&'a mut Reader<'de>);

impl<'de> SeqAccess<'de> for List<'_, 'de> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
        if self.0.peek() == Some(tag::END) {
            return Ok(None);
        }
        seed.deserialize(&mut *self.0).map(Some)
    }
}

impl<'de> MapAccess<'de> for List<'_, 'de> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        seed.deserialize(&mut *self.0)
    }
}

/// A variant with content: its name comes first.
struct WithContent<'a, 'de>(&'a mut Reader<'de>);

impl<'de> EnumAccess<'de> for WithContent<'_, 'de> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Failure> {
        let variant = seed.deserialize(&mut *self.0)?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for WithContent<'_, 'de> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        Err(Failure("content in a variant that has none".to_owned()))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.0.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.0.deserialize_any(visitor)
    }
}
