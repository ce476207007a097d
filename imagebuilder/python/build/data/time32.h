/* Given to the compiler before each source for 32-bit targets with musl 1.1, whose time_t has 32 bits: zig brings
 * the headers of musl 1.2, whose time_t has 64, and whose functions have other names for that. These types are
 * the older library's, its functions keep their plain names, and struct stat's times are where it writes them.
 * Source: musl's "time64" release notes (1.2.0), and what its headers leave to be defined before.
 */
#ifndef IMAGEBUILDER_TIME32_H
#define IMAGEBUILDER_TIME32_H
#ifndef __ASSEMBLER__

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

typedef long time_t;
#define __DEFINED_time_t
typedef long suseconds_t;
#define __DEFINED_suseconds_t

#include <features.h>
#undef __REDIR
#define __REDIR(name, other) struct imagebuilder_none

/* musl's own sys/socket.h takes what is defined; the newer numbers are those of kernels from 5.1 on */
#ifdef __mips__
#define SO_SNDTIMEO 0x1005
#define SO_RCVTIMEO 0x1006
#else
#define SO_RCVTIMEO 20
#define SO_SNDTIMEO 21
#endif
#define SO_TIMESTAMP 29
#define SO_TIMESTAMPNS 35
#define SO_TIMESTAMPING 37

#include <sys/stat.h>
#define st_atim __st_atim32
#define st_mtim __st_mtim32
#define st_ctim __st_ctim32

#endif
#endif
