// The floor: the least that a durable broker can do, so that a real one can be measured against it.
//
// One thread, epoll. In each round it takes what has arrived on all connections, checks every batch's CRC-32C, commits
// everything in one write and one sync, and answers. It keeps nothing that could be read: Fetch serves records made up
// in memory, and ListOffsets tells of endless partitions; or, in the mode for that, Fetch is one read from a file of
// batches and one send, which no broker can do with less that has its records in files and looks at none of them. It
// trusts its clients; listen on loopback is all it does.
//
// nullbroker PORT MODE [PARTITIONS [MESSAGE_SIZE [RECORDS [MIB]]]]
//   MODE  null      no storage
//         write     to the page cache, no sync
//         fsync     a growing file, fdatasync
//         fsyncpre  a ring of 1 GiB written with zeros first, fdatasync
//         dsync     the same ring with O_DIRECT and O_DSYNC, padded to 4 KiB
//         read      no storage; a file of MIB (1024) is written first, from which all partitions are read
//   PARTITIONS (3, at most 1024); MESSAGE_SIZE (1024) and RECORDS (64) of a batch are for Fetch.
//
// It speaks ApiVersions 0, Metadata 0-1, Produce 3-7, ListOffsets 1, Fetch 4; any topic exists. The file is in the
// current folder, and removed at SIGTERM.
#define _GNU_SOURCE
#include "kafka.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING_BYTES (1ul << 30)
#define GROWING_BYTES_MAX (4ul << 30)
#define PARTITIONS_MAX 1024
#define EVENTS_MAX 1024
#define ENDLESS 1000000000000LL

enum Mode { NO_STORAGE, PAGE_CACHE, GROWING_SYNC, RING_SYNC, RING_DIRECT, READ_FILE };

enum Api { PRODUCE = 0, FETCH = 1, LIST_OFFSETS = 2, METADATA = 3, API_VERSIONS = 18 };

struct Connection {
    int fd;
    uint8_t *inbox;
    size_t inbox_length, inbox_capacity;
    Buffer out;
    size_t out_sent;
    int waits_for_room;
};

static int port, partitions = 3;
static enum Mode mode;
static int poll_fd;
static volatile int stop;

// What arrived in this round and is to be committed, and where in the file it goes.
static Buffer round_bytes;
static int file = -1;
static size_t file_at;

static uint64_t next_offset[PARTITIONS_MAX];
// The batch that Fetch serves over and over.
static Buffer batch;
static int batch_records = 64, message_size = 1024;
// How many of them the file holds that is read; none is, where Fetch serves from memory.
static uint64_t batches_in_file;

static long syncs, requests, records_taken, crc_errors, fetches;

static void on_signal(int signal) {
    (void)signal;
    stop = 1;
}

// Copies a topic's name from the request to the response; gives what follows it in the request.
static const uint8_t *echo_name(Buffer *out, const uint8_t *at) {
    int length = get16(at);
    put16(out, length);
    put_bytes(out, at + 2, length);
    return at + 2 + length;
}

static void answer_api_versions(Buffer *out, int version) {
    static const int served[][3] = {
        {PRODUCE, 3, 7}, {FETCH, 4, 4}, {LIST_OFFSETS, 1, 1}, {METADATA, 0, 1}, {API_VERSIONS, 0, 0}};
    put16(out, version > 0 ? 35 : 0); // UNSUPPORTED_VERSION, with the ranges all the same
    put32(out, 5);
    for (int i = 0; i < 5; i++) {
        put16(out, served[i][0]);
        put16(out, served[i][1]);
        put16(out, served[i][2]);
    }
}

static void answer_metadata(Buffer *out, const uint8_t *at, int version) {
    int topics = get32(at);
    at += 4;
    put32(out, 1); // one broker, node 1
    put32(out, 1);
    put_string(out, "127.0.0.1");
    put32(out, port);
    if (version >= 1) {
        put16(out, -1); // rack
        put32(out, 1);  // controller
    }
    if (topics < 0) {
        topics = 0;
    }
    put32(out, topics);
    for (int i = 0; i < topics; i++) {
        put16(out, 0);
        at = echo_name(out, at);
        if (version >= 1) {
            put8(out, 0); // not internal
        }
        put32(out, partitions);
        for (int partition = 0; partition < partitions; partition++) {
            put16(out, 0);
            put32(out, partition);
            put32(out, 1); // leader
            put32(out, 1); // replicas
            put32(out, 1);
            put32(out, 1); // in-sync replicas
            put32(out, 1);
        }
    }
}

// Gives whether the client waits for an answer.
static int answer_produce(Buffer *out, const uint8_t *at, int version) {
    requests++;
    int transactional_id = get16(at);
    at += 2 + (transactional_id > 0 ? transactional_id : 0);
    int acks = get16(at);
    at += 2 + 4;
    int topics = get32(at);
    at += 4;
    put32(out, topics);
    for (int i = 0; i < topics; i++) {
        at = echo_name(out, at);
        int count = get32(at);
        at += 4;
        put32(out, count);
        for (int k = 0; k < count; k++) {
            int partition = get32(at);
            int length = get32(at + 4);
            at += 8;
            uint64_t base_offset = next_offset[partition];
            for (const uint8_t *one = at, *end = at + length; one + 61 <= end;) {
                int batch_length = get32(one + 8) + 12;
                if (crc32c(one + 21, batch_length - 21) != get32(one + 17)) {
                    crc_errors++;
                }
                records_taken += get32(one + 57);
                next_offset[partition] += get32(one + 23) + 1;
                one += batch_length;
            }
            if (mode != NO_STORAGE && mode != READ_FILE) {
                put_bytes(&round_bytes, at, length);
            }
            at += length;
            put32(out, partition);
            put16(out, 0);
            put64(out, base_offset);
            put64(out, -1); // log append time
            if (version >= 5) {
                put64(out, 0); // log start offset
            }
        }
    }
    put32(out, 0); // throttle time
    return acks != 0;
}

static uint64_t end_offset(void) {
    return batches_in_file ? batches_in_file * batch_records : ENDLESS;
}

static void answer_list_offsets(Buffer *out, const uint8_t *at) {
    at += 4; // replica
    int topics = get32(at);
    at += 4;
    put32(out, topics);
    for (int i = 0; i < topics; i++) {
        at = echo_name(out, at);
        int count = get32(at);
        at += 4;
        put32(out, count);
        for (int k = 0; k < count; k++) {
            int64_t timestamp = (int64_t)get64(at + 4);
            put32(out, get32(at));
            at += 12;
            put16(out, 0);
            put64(out, -1);
            put64(out, timestamp == -2 ? 0 : end_offset());
        }
    }
}

// Appends the batch as the one that has so many before it. Its base offset is not part of what its checksum covers.
static void put_batch_at(Buffer *out, uint64_t number) {
    size_t start = out->length;
    uint64_t base_offset = number * batch_records;
    put_bytes(out, batch.bytes, batch.length);
    patch32(out, start, base_offset >> 32);
    patch32(out, start + 4, base_offset);
}

// Appends so many batches from `first` on.
static void put_batches(Buffer *out, uint64_t first, int batches) {
    if (batches_in_file) {
        size_t length = batches * batch.length;
        reserve(out, length);
        if (pread(file, out->bytes + out->length, length, first * batch.length) != (ssize_t)length) {
            perror("pread");
            exit(1);
        }
        out->length += length;
        return;
    }
    for (int n = 0; n < batches; n++) {
        put_batch_at(out, first + n);
    }
}

static void answer_fetch(Buffer *out, const uint8_t *at) {
    at += 4 + 4 + 4; // replica, wait, least bytes
    int bytes_max = get32(at);
    at += 4 + 1; // isolation
    int topics = get32(at);
    at += 4;
    put32(out, 0); // throttle time
    put32(out, topics);
    for (int i = 0; i < topics; i++) {
        at = echo_name(out, at);
        int count = get32(at);
        at += 4;
        put32(out, count);
        for (int k = 0; k < count; k++) {
            int partition = get32(at);
            uint64_t offset = get64(at + 4);
            int partition_bytes_max = get32(at + 12);
            at += 16;
            if (partition_bytes_max > bytes_max) {
                partition_bytes_max = bytes_max;
            }
            put32(out, partition);
            put16(out, 0);
            put64(out, end_offset()); // high watermark
            put64(out, end_offset()); // last stable offset
            put32(out, 0);            // no aborted transactions
            int batches = partition_bytes_max / (int)batch.length;
            if (batches < 1) {
                batches = 1;
            }
            uint64_t first = offset / batch_records;
            if (batches_in_file && first + batches > batches_in_file) {
                batches = first < batches_in_file ? batches_in_file - first : 0;
            }
            put32(out, batches * batch.length);
            put_batches(out, first, batches);
            fetches++;
        }
    }
}

// Answers one request, which begins behind its length.
static void handle(struct Connection *connection, const uint8_t *request) {
    int api = get16(request), version = get16(request + 2);
    int client_id = get16(request + 8);
    const uint8_t *body = request + 10 + (client_id > 0 ? client_id : 0);
    Buffer *out = &connection->out;
    size_t start = out->length;
    put32(out, 0); // length, patched below
    put32(out, get32(request + 4));
    switch (api) {
    case API_VERSIONS:
        answer_api_versions(out, version);
        break;
    case METADATA:
        answer_metadata(out, body, version);
        break;
    case PRODUCE:
        if (!answer_produce(out, body, version)) {
            out->length = start;
            return;
        }
        break;
    case LIST_OFFSETS:
        answer_list_offsets(out, body);
        break;
    case FETCH:
        answer_fetch(out, body);
        break;
    default:
        fprintf(stderr, "unsupported api %d v%d\n", api, version);
    }
    patch32(out, start, out->length - start - 4);
}

static void watch(struct Connection *connection, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

static void flush(struct Connection *connection) {
    Buffer *out = &connection->out;
    while (connection->out_sent < out->length) {
        ssize_t sent = send(connection->fd, out->bytes + connection->out_sent, out->length - connection->out_sent,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (!connection->waits_for_room) {
                connection->waits_for_room = 1;
                watch(connection, EPOLLIN | EPOLLOUT);
            }
            return;
        }
        connection->out_sent += sent;
    }
    connection->out_sent = out->length = 0;
    if (connection->waits_for_room) {
        connection->waits_for_room = 0;
        watch(connection, EPOLLIN);
    }
}

// Puts the round into memory that O_DIRECT takes; gives its padded length.
static size_t align(uint8_t **aligned) {
    static uint8_t *memory;
    static size_t capacity;
    size_t padding = (4096 - round_bytes.length % 4096) % 4096;
    size_t length = round_bytes.length + padding;
    if (length > capacity) {
        free(memory);
        capacity = length * 2;
        if (posix_memalign((void **)&memory, 4096, capacity)) {
            abort();
        }
    }
    memcpy(memory, round_bytes.bytes, round_bytes.length);
    memset(memory + round_bytes.length, 0, padding);
    *aligned = memory;
    return length;
}

// Makes what arrived in this round durable, as far as the mode goes.
static void commit(void) {
    if (!round_bytes.length) {
        return;
    }
    uint8_t *bytes = round_bytes.bytes;
    size_t length = mode == RING_DIRECT ? align(&bytes) : round_bytes.length;
    if (mode >= RING_SYNC && file_at + length > RING_BYTES) {
        file_at = 0;
    }
    if (pwrite(file, bytes, length, file_at) < 0) {
        perror("pwrite");
    }
    file_at += length;
    if (mode == GROWING_SYNC || mode == RING_SYNC) {
        fdatasync(file);
    }
    if (mode >= GROWING_SYNC) {
        syncs++;
    }
    if (mode < RING_SYNC && file_at > GROWING_BYTES_MAX) {
        if (ftruncate(file, 0)) {
            perror("ftruncate");
        }
        file_at = 0;
    }
    round_bytes.length = 0;
}

static void write_batches(const char *name) {
    Buffer one = {0};
    for (uint64_t n = 0; n < batches_in_file; n++) {
        one.length = 0;
        put_batch_at(&one, n);
        if (write(file, one.bytes, one.length) != (ssize_t)one.length) {
            perror(name);
            exit(1);
        }
    }
    free(one.bytes);
    fsync(file);
}

static void open_file(const char *name) {
    file = open(name, O_CREAT | O_RDWR | O_TRUNC, 0644);
    if (file < 0) {
        perror(name);
        exit(1);
    }
    if (batches_in_file) {
        write_batches(name);
        return;
    }
    if (mode >= RING_SYNC) {
        uint8_t *zeros = calloc(1, 1 << 20);
        for (size_t at = 0; at < RING_BYTES; at += 1 << 20) {
            if (pwrite(file, zeros, 1 << 20, at) < 0) {
                perror(name);
                exit(1);
            }
        }
        free(zeros);
        fsync(file);
    }
    if (mode == RING_DIRECT) {
        close(file);
        file = open(name, O_RDWR | O_DIRECT | O_DSYNC);
        if (file < 0) {
            perror("O_DIRECT");
            exit(1);
        }
    }
}

static int listen_on_loopback(void) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) {
        perror("bind");
        exit(1);
    }
    listen(listener, 1024);
    return listener;
}

static void accept_one(int listener) {
    int one = 1, fd = accept4(listener, 0, 0, SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct Connection *connection = calloc(1, sizeof *connection);
    connection->fd = fd;
    connection->inbox_capacity = 1 << 18;
    connection->inbox = malloc(connection->inbox_capacity);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

// Reads once and handles every whole request. Gives whether anything arrived.
static int take(struct Connection *connection) {
    ssize_t got = recv(connection->fd, connection->inbox + connection->inbox_length,
                       connection->inbox_capacity - connection->inbox_length, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) {
        flush(connection);
        return 0;
    }
    if (got <= 0) {
        close(connection->fd);
        free(connection->inbox);
        free(connection->out.bytes);
        free(connection);
        return 0;
    }
    connection->inbox_length += got;
    size_t at = 0;
    while (connection->inbox_length - at >= 4) {
        uint32_t length = get32(connection->inbox + at);
        if (connection->inbox_length - at < 4 + length) {
            if (4 + length > connection->inbox_capacity) {
                connection->inbox_capacity = 4 + length + 65536;
                memmove(connection->inbox, connection->inbox + at, connection->inbox_length - at);
                connection->inbox_length -= at;
                at = 0;
                connection->inbox = realloc(connection->inbox, connection->inbox_capacity);
            }
            break;
        }
        handle(connection, connection->inbox + at + 4);
        at += 4 + length;
    }
    if (at) {
        memmove(connection->inbox, connection->inbox + at, connection->inbox_length - at);
        connection->inbox_length -= at;
    }
    return 1;
}

static enum Mode mode_of(const char *name) {
    static const char *names[] = {"null", "write", "fsync", "fsyncpre", "dsync", "read"};
    for (int i = 0; i < 6; i++) {
        if (!strcmp(name, names[i])) {
            return i;
        }
    }
    fprintf(stderr, "no mode %s: null, write, fsync, fsyncpre, dsync or read\n", name);
    exit(2);
}

int main(int count, char **arguments) {
    if (count < 3) {
        fprintf(stderr, "nullbroker PORT MODE [PARTITIONS [MESSAGE_SIZE [RECORDS [MIB]]]]\n");
        return 2;
    }
    port = atoi(arguments[1]);
    mode = mode_of(arguments[2]);
    partitions = count > 3 ? atoi(arguments[3]) : partitions;
    message_size = count > 4 ? atoi(arguments[4]) : message_size;
    batch_records = count > 5 ? atoi(arguments[5]) : batch_records;
    if (partitions < 1 || partitions > PARTITIONS_MAX) {
        fprintf(stderr, "1 to %d partitions\n", PARTITIONS_MAX);
        return 2;
    }
    put_batch(&batch, batch_records, message_size, 1700000000000LL);
    if (mode == READ_FILE) {
        batches_in_file = ((count > 6 ? strtoul(arguments[6], 0, 10) : 1024) << 20) / batch.length;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGPIPE, SIG_IGN);

    char name[100];
    sprintf(name, "wal.%d", port);
    if (mode != NO_STORAGE) {
        open_file(name);
    }
    int listener = listen_on_loopback();
    poll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = 0};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);

    static struct epoll_event events[EVENTS_MAX];
    static struct Connection *heard[EVENTS_MAX];
    while (!stop) {
        int ready = epoll_wait(poll_fd, events, EVENTS_MAX, 500);
        int heard_count = 0;
        for (int i = 0; i < ready; i++) {
            struct Connection *connection = events[i].data.ptr;
            if (!connection) {
                accept_one(listener);
            } else if (take(connection)) {
                heard[heard_count++] = connection;
            }
        }
        commit();
        for (int i = 0; i < heard_count; i++) {
            flush(heard[i]);
        }
    }
    fprintf(stderr,
            "null broker: %ld requests, %ld records, %ld syncs of %.1f requests, %ld bad checksums, %ld fetches\n",
            requests, records_taken, syncs, syncs ? requests / (double)syncs : 0, crc_errors, fetches);
    if (file >= 0) {
        unlink(name);
    }
    return crc_errors > 0;
}
