// Kafka's integers to and from bytes, and CRC-32C by the processor's own instruction: shared by the programs here.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define CRC32C_8(crc, word) _mm_crc32_u64(crc, word)
#define CRC32C_1(crc, byte) _mm_crc32_u8(crc, byte)
#elif defined(__aarch64__)
#include <arm_acle.h>
#define CRC32C_8(crc, word) __crc32cd(crc, word)
#define CRC32C_1(crc, byte) __crc32cb(crc, byte)
#else
#error "CRC-32C needs the instruction of x86-64 or arm64"
#endif

static inline uint32_t crc32c(const uint8_t *bytes, size_t count) {
    uint64_t crc = 0xffffffff;
    while (count >= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        crc = CRC32C_8(crc, word);
        bytes += 8;
        count -= 8;
    }
    while (count--) {
        crc = CRC32C_1(crc, *bytes++);
    }
    return ~(uint32_t)crc;
}

static inline int16_t get16(const uint8_t *p) {
    return p[0] << 8 | p[1];
}

static inline uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static inline uint64_t get64(const uint8_t *p) {
    return (uint64_t)get32(p) << 32 | get32(p + 4);
}

// Bytes that grow.
typedef struct {
    uint8_t *bytes;
    size_t length, capacity;
} Buffer;

static inline void reserve(Buffer *buffer, size_t more) {
    if (buffer->length + more > buffer->capacity) {
        buffer->capacity = (buffer->length + more) * 2;
        buffer->bytes = realloc(buffer->bytes, buffer->capacity);
        if (!buffer->bytes) {
            abort();
        }
    }
}

static inline void put8(Buffer *buffer, int value) {
    reserve(buffer, 1);
    buffer->bytes[buffer->length++] = value;
}

static inline void put16(Buffer *buffer, int value) {
    put8(buffer, value >> 8);
    put8(buffer, value);
}

static inline void put32(Buffer *buffer, uint32_t value) {
    put16(buffer, value >> 16);
    put16(buffer, value & 0xffff);
}

static inline void put64(Buffer *buffer, uint64_t value) {
    put32(buffer, value >> 32);
    put32(buffer, value);
}

static inline void put_bytes(Buffer *buffer, const void *bytes, size_t count) {
    reserve(buffer, count);
    memcpy(buffer->bytes + buffer->length, bytes, count);
    buffer->length += count;
}

static inline void put_string(Buffer *buffer, const char *text) {
    put16(buffer, strlen(text));
    put_bytes(buffer, text, strlen(text));
}

// Zigzag, then seven bits at a time, as records have it.
static inline void put_varint(Buffer *buffer, int64_t value) {
    uint64_t rest = ((uint64_t)value << 1) ^ (value >> 63);
    while (rest >= 0x80) {
        put8(buffer, (rest & 0x7f) | 0x80);
        rest >>= 7;
    }
    put8(buffer, rest);
}

// Writes `value` over what is at `at`.
static inline void patch32(Buffer *buffer, size_t at, uint32_t value) {
    Buffer over = {buffer->bytes, at, buffer->capacity};
    put32(&over, value);
}

// Appends one record batch of format 2 whose records have random values of `size` bytes.
static inline void put_batch(Buffer *buffer, int records, int size, int64_t timestamp_ms) {
    size_t start = buffer->length;
    put64(buffer, 0);  // base offset
    put32(buffer, 0);  // length, patched below
    put32(buffer, -1); // leader epoch
    put8(buffer, 2);   // magic
    put32(buffer, 0);  // checksum, patched below
    put16(buffer, 0);  // attributes
    put32(buffer, records - 1);
    put64(buffer, timestamp_ms);
    put64(buffer, timestamp_ms);
    put64(buffer, -1); // producer id, epoch, sequence: none
    put16(buffer, -1);
    put32(buffer, -1);
    put32(buffer, records);
    Buffer record = {0};
    for (int i = 0; i < records; i++) {
        record.length = 0;
        put8(&record, 0);
        put_varint(&record, 0);
        put_varint(&record, i);
        put_varint(&record, -1);
        put_varint(&record, size);
        for (int k = 0; k < size; k++) {
            put8(&record, rand());
        }
        put_varint(&record, 0);
        put_varint(buffer, record.length);
        put_bytes(buffer, record.bytes, record.length);
    }
    free(record.bytes);
    size_t length = buffer->length - start;
    patch32(buffer, start + 8, length - 12);
    patch32(buffer, start + 17, crc32c(buffer->bytes + start + 21, length - 21));
}
