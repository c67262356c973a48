//! Values to bytes.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{Failure, tag};

type Written = Result<(), Failure>;

/// Gathers the bytes.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Goes on behind `bytes`.
    pub(super) fn new(bytes: Vec<u8>) -> Writer {
        Writer { bytes }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn tag(&mut self, tag: u8) {
        self.bytes.push(tag);
    }

    fn tagged(&mut self, tag: u8, content: &[u8]) -> Written {
        self.tag(tag);
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.bytes.push(number.to_le_bytes()[0]);
    }

    /// Opens what a variant's content stands in.
    fn variant(&mut self, name: &str) -> Written {
        self.tag(tag::MAP);
        self.serialize_str(name)
    }

    fn end(&mut self) -> Written {
        self.tag(tag::END);
        Ok(())
    }

    /// Ends the content of a variant, and the variant.
    fn end_variant(&mut self) -> Written {
        self.end()?;
        self.end()
    }
}

impl Serializer for &mut Writer {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_bool(self, value: bool) -> Written {
        self.tag(if value { tag::TRUE } else { tag::FALSE });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Written {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Written {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Written {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Written {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => {
                self.tag(tag::NEGATIVE);
                self.number((!value).unsigned_abs());
                Ok(())
            }
        }
    }

    fn serialize_i128(self, value: i128) -> Written {
        if let Ok(value) = u128::try_from(value) {
            return self.serialize_u128(value);
        }
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.tagged(tag::I128, &value.to_le_bytes()),
        }
    }

    fn serialize_u8(self, value: u8) -> Written {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Written {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Written {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Written {
        match u8::try_from(value) {
            Ok(small) if small < tag::SMALL_END => self.tag(small),
            _ => {
                self.tag(tag::UNSIGNED);
                self.number(value);
            }
        }
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Written {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => self.tagged(tag::U128, &value.to_le_bytes()),
        }
    }

    fn serialize_f32(self, value: f32) -> Written {
        self.tagged(tag::F32, &value.to_bits().to_le_bytes())
    }

    fn serialize_f64(self, value: f64) -> Written {
        self.tagged(tag::F64, &value.to_bits().to_le_bytes())
    }

    fn serialize_char(self, value: char) -> Written {
        self.tagged(tag::CHAR, &u32::from(value).to_le_bytes())
    }

    fn serialize_str(self, value: &str) -> Written {
        match u8::try_from(value.len()) {
            Ok(short) if short < tag::SHORT_TEXT_END - tag::SHORT_TEXT => {
                self.tag(tag::SHORT_TEXT + short);
            }
            _ => {
                self.tag(tag::TEXT);
                self.number(value.len() as u64);
            }
        }
        self.bytes.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Written {
        self.tag(tag::BYTES);
        self.number(value.len() as u64);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Written {
        self.tag(tag::NONE);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        self.tag(tag::SOME);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.tag(tag::UNIT);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.end()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Failure> {
        self.tag(tag::SEQUENCE);
        Ok(self)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self, Failure> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Self, Failure> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self, Failure> {
        self.variant(variant)?;
        self.serialize_seq(Some(len))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Failure> {
        self.tag(tag::MAP);
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Self, Failure> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self, Failure> {
        self.variant(variant)?;
        self.serialize_map(Some(len))
    }
}

impl SerializeSeq for &mut Writer {
    type Ok = ();
    type Error = Failure;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut **self)
    }

    fn end(self) -> Written {
        Writer::end(self)
    }
}

impl SerializeTuple for &mut Writer {
    type Ok = ();
    type Error = Failure;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut **self)
    }

    fn end(self) -> Written {
        Writer::end(self)
    }
}

impl SerializeTupleStruct for &mut Writer {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut **self)
    }

    fn end(self) -> Written {
        Writer::end(self)
    }
}

impl SerializeTupleVariant for &mut Writer {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut **self)
    }

    fn end(self) -> Written {
        self.end_variant()
    }
}

impl SerializeMap for &mut Writer {
    type Ok = ();
    type Error = Failure;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut **self)
    }

    fn end(self) -> Written {
        Writer::end(self)
    }
}

impl SerializeStruct for &mut Writer {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
        self.serialize_str(name)?;
        value.serialize(&mut **self)
    }

    fn end(self) -> Written {
        Writer::end(self)
    }
}

impl SerializeStructVariant for &mut Writer {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
        self.serialize_str(name)?;
        value.serialize(&mut **self)
    }

    fn end(self) -> Written {
        self.end_variant()
    }
}
