//! Models lie on purpose: one switch per sentence, so that a test can show that a check notices when the sentence is broken.

/// Declares a model's `Lies`: a `bool` per sentence, all of them honest in `NONE`, and each told alone in `EACH`.
macro_rules! lies {
    ($(#[$about:meta])* pub struct Lies { $($(#[$doc:meta])* $name:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Lies {
            $($(#[$doc])* pub $name: bool,)*
        }

        impl Lies {
            /// Everything is as the model says.
            pub const NONE: Lies = Lies { $($name: false,)* };

            /// Every lie by its name, told alone.
            pub const EACH: &[(&str, Lies)] = &[
                $((stringify!($name), Lies { $name: true, ..Lies::NONE }),)*
            ];
        }
    };
}
pub(crate) use lies;
