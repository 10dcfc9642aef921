//! What modules remember of a request, each under a type of its own.

use std::any::{Any, TypeId};
use std::rc::Rc;

use crate::pool::Buf;

/// A request body that was read whole: what `$request_body` shows, and what a second location can pass on after an
/// internal redirect.
#[derive(Clone, Debug, Default)]
pub struct HeldBody(pub Rc<Buf>);

/// A request's typed slots; empty for most requests.
#[derive(Default)]
pub struct Slots {
    slots: Vec<Slot>,
}

/// A value in a box that the next request uses again.
struct Slot {
    of: TypeId,
    /// This request asked for it.
    used: bool,
    value: Box<dyn Any>,
    reset: fn(&mut dyn Any),
}

impl Slots {
    /// The value of type `T`, if the request has one.
    pub fn find<T: 'static>(&self) -> Option<&T> {
        let slot = self.slots.iter().find(|slot| slot.of == TypeId::of::<T>())?;
        slot.value.downcast_ref().filter(|_| slot.used)
    }

    /// The value of type `T`, if the request has one.
    pub fn find_mut<T: 'static>(&mut self) -> Option<&mut T> {
        let slot = self.slots.iter_mut().find(|slot| slot.of == TypeId::of::<T>())?;
        slot.value.downcast_mut().filter(|_| slot.used)
    }

    /// The value of type `T`, made by `Default` on first use.
    pub fn of<T: Default + 'static>(&mut self) -> &mut T {
        let at = match self.slots.iter().position(|slot| slot.of == TypeId::of::<T>()) {
            Some(at) => at,
            None => self.add::<T>(),
        };
        let slot = &mut self.slots[at];
        slot.used = true;
        slot.value.downcast_mut().expect("the slot was found by its type")
    }

    #[cold]
    fn add<T: Default + 'static>(&mut self) -> usize {
        let reset = |value: &mut dyn Any| {
            if let Some(value) = value.downcast_mut::<T>() {
                *value = T::default();
            }
        };
        self.slots.push(Slot { of: TypeId::of::<T>(), used: false, value: Box::<T>::default(), reset });
        self.slots.len() - 1
    }

    /// Forgets all values, and keeps their boxes.
    pub fn clear(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.used) {
            (slot.reset)(&mut *slot.value);
            slot.used = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_gone_with_its_request() {
        let mut slots = Slots::default();
        assert_eq!(slots.find::<u32>(), None);
        *slots.of::<u32>() = 7;
        let held = Rc::new(Buf::default());
        slots.of::<HeldBody>().0 = held.clone();
        assert_eq!(slots.find::<u32>(), Some(&7));
        assert_eq!(slots.find_mut::<u64>(), None);
        slots.clear();
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(slots.find::<u32>().is_none() && slots.find_mut::<u32>().is_none());
        assert_eq!(*slots.of::<u32>(), 0);
    }
}
