// What is used of nghttp2's C interface (libnghttp2.so.14), told again so that the library alone is needed to build.
// Names, numbers and layouts are those of its documentation: https://nghttp2.org/documentation/apiref.html
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

extern "C" {

struct nghttp2_session;
struct nghttp2_session_callbacks;
struct nghttp2_option;

struct nghttp2_nv {
    uint8_t *name, *value;
    size_t namelen, valuelen;
    uint8_t flags;
};
struct nghttp2_settings_entry {
    int32_t settings_id;
    uint32_t value;
};
struct nghttp2_frame_hd {
    size_t length;
    int32_t stream_id;
    uint8_t type, flags, reserved;
};
struct nghttp2_priority_spec {
    int32_t stream_id, weight;
    uint8_t exclusive;
};
// The head of all frames, and all that is read of one.
struct nghttp2_frame {
    nghttp2_frame_hd hd;
    size_t padlen;
    nghttp2_priority_spec pri_spec;
    nghttp2_nv* nva;
    size_t nvlen;
    int category;
};
union nghttp2_data_source {
    int fd;
    void* ptr;
};
using nghttp2_read = ssize_t (*)(nghttp2_session*, int32_t, uint8_t*, size_t, uint32_t*, nghttp2_data_source*, void*);
struct nghttp2_data_provider {
    nghttp2_data_source source;
    nghttp2_read read_callback;
};

enum {
    NGHTTP2_DATA = 0x00, NGHTTP2_HEADERS = 0x01, NGHTTP2_PING = 0x06,
    NGHTTP2_FLAG_NONE = 0x00, NGHTTP2_FLAG_END_STREAM = 0x01, NGHTTP2_FLAG_ACK = 0x01,
    NGHTTP2_DATA_FLAG_EOF = 0x01, NGHTTP2_DATA_FLAG_NO_END_STREAM = 0x02, NGHTTP2_DATA_FLAG_NO_COPY = 0x04,
    NGHTTP2_NV_FLAG_NONE = 0x00, NGHTTP2_NV_FLAG_NO_INDEX = 0x01,
    NGHTTP2_HCAT_REQUEST = 0,
    NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS = 0x03, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE = 0x04,
    NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE = 0x06,
    NGHTTP2_NO_ERROR = 0x00, NGHTTP2_INTERNAL_ERROR = 0x02, NGHTTP2_CANCEL = 0x08,
    NGHTTP2_ERR_DEFERRED = -508, NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE = -521, NGHTTP2_ERR_CALLBACK_FAILURE = -902,
};

using nghttp2_on_frame = int (*)(nghttp2_session*, const nghttp2_frame*, void*);
using nghttp2_on_unsent = int (*)(nghttp2_session*, const nghttp2_frame*, int, void*);
using nghttp2_on_header = int (*)(nghttp2_session*, const nghttp2_frame*, const uint8_t*, size_t, const uint8_t*,
                                  size_t, uint8_t, void*);
using nghttp2_on_data = int (*)(nghttp2_session*, uint8_t, int32_t, const uint8_t*, size_t, void*);
using nghttp2_send_data = int (*)(nghttp2_session*, nghttp2_frame*, const uint8_t*, size_t, nghttp2_data_source*, void*);
using nghttp2_on_close = int (*)(nghttp2_session*, int32_t, uint32_t, void*);

int nghttp2_session_callbacks_new(nghttp2_session_callbacks**);
void nghttp2_session_callbacks_del(nghttp2_session_callbacks*);
void nghttp2_session_callbacks_set_on_begin_headers_callback(nghttp2_session_callbacks*, nghttp2_on_frame);
void nghttp2_session_callbacks_set_on_header_callback(nghttp2_session_callbacks*, nghttp2_on_header);
void nghttp2_session_callbacks_set_on_frame_recv_callback(nghttp2_session_callbacks*, nghttp2_on_frame);
void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(nghttp2_session_callbacks*, nghttp2_on_data);
void nghttp2_session_callbacks_set_send_data_callback(nghttp2_session_callbacks*, nghttp2_send_data);
void nghttp2_session_callbacks_set_on_frame_send_callback(nghttp2_session_callbacks*, nghttp2_on_frame);
void nghttp2_session_callbacks_set_on_frame_not_send_callback(nghttp2_session_callbacks*, nghttp2_on_unsent);
void nghttp2_session_callbacks_set_on_stream_close_callback(nghttp2_session_callbacks*, nghttp2_on_close);

int nghttp2_option_new(nghttp2_option**);
void nghttp2_option_del(nghttp2_option*);
void nghttp2_option_set_no_auto_window_update(nghttp2_option*, int);
// Of Debian's 1.52 and of 1.57: others do without.
void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option*, uint64_t burst, uint64_t rate) __attribute__((weak));

int nghttp2_session_server_new2(nghttp2_session**, const nghttp2_session_callbacks*, void*, const nghttp2_option*);
void nghttp2_session_del(nghttp2_session*);
ssize_t nghttp2_session_mem_recv(nghttp2_session*, const uint8_t*, size_t);
ssize_t nghttp2_session_mem_send(nghttp2_session*, const uint8_t**);
int nghttp2_session_want_read(nghttp2_session*);
int nghttp2_session_want_write(nghttp2_session*);
int nghttp2_session_set_local_window_size(nghttp2_session*, uint8_t, int32_t, int32_t);
int nghttp2_session_consume_connection(nghttp2_session*, size_t);
int nghttp2_session_consume_stream(nghttp2_session*, int32_t, size_t);
int nghttp2_session_resume_data(nghttp2_session*, int32_t);
int32_t nghttp2_session_get_last_proc_stream_id(nghttp2_session*);
int nghttp2_submit_settings(nghttp2_session*, uint8_t, const nghttp2_settings_entry*, size_t);
int nghttp2_submit_response(nghttp2_session*, int32_t, const nghttp2_nv*, size_t, const nghttp2_data_provider*);
int nghttp2_submit_trailer(nghttp2_session*, int32_t, const nghttp2_nv*, size_t);
int nghttp2_submit_rst_stream(nghttp2_session*, uint8_t, int32_t, uint32_t);
int nghttp2_submit_ping(nghttp2_session*, uint8_t, const uint8_t*);
int nghttp2_submit_shutdown_notice(nghttp2_session*);
int nghttp2_submit_goaway(nghttp2_session*, uint8_t, int32_t, uint32_t, const uint8_t*, size_t);
const char* nghttp2_strerror(int);
}
