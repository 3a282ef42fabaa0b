// How the sources isa_*.cc compile the kernel bodies for one instruction set.
//
// Such a source includes what it needs from the standard library, names the
// instructions with KVTIER_TARGET, and then includes the simd_*.h and *_body.h
// headers inside a namespace of its own, so that no function compiled for an
// instruction set can be linked in where another is meant. For the same reason
// the bodies call nothing from the standard library: an inline function of it
// would be compiled with these instructions and might be the copy that the
// linker keeps for everybody.
#pragma once

#define KVTIER_INLINE inline __attribute__((always_inline))
#define KVTIER_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define KVTIER_TARGET(features) \
  KVTIER_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define KVTIER_TARGET_END _Pragma("clang attribute pop")
#else
// Not popped: gcc compiles templates at the end of the file, with the options
// in force there.
#define KVTIER_TARGET(features) KVTIER_PRAGMA(GCC target(features))
#define KVTIER_TARGET_END
#endif
