// The Python face of session.h: a Connection per socket, a Table per process; events are tuples in a list.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "session.h"

namespace {

enum Kind { CALL, BEGIN, MESSAGE, END, RESET, ROOM };

PyObject* text(std::string_view given) {
    return PyUnicode_DecodeLatin1(given.data(), static_cast<Py_ssize_t>(given.size()), nullptr);
}

PyObject* bytes(std::string_view given) {
    return PyBytes_FromStringAndSize(given.data(), static_cast<Py_ssize_t>(given.size()));
}

// The same few names come in every call: made once.
PyObject* name_of(const std::string& given) {
    static std::unordered_map<std::string, PyObject*> names;
    const auto found = names.find(given);
    if (found != names.end()) return Py_NewRef(found->second);
    PyObject* made = text(given);
    if (names.size() < 256) names.emplace(given, Py_NewRef(made));
    return made;
}

PyObject* metadata_of(const Stream& stream) {
    PyObject* all = PyTuple_New(static_cast<Py_ssize_t>(stream.metadata.size()));
    Py_ssize_t at = 0;
    for (const auto& [name, value] : stream.metadata)
        PyTuple_SET_ITEM(all, at++, Py_BuildValue("(NN)", name_of(name), text(value)));
    return all;
}

class Events final : public Told {
public:
    PyObject* list = nullptr;
    bool keyed = false;

    void call(const Stream& stream, std::string_view message) override {
        PyObject* key = keyed ? bytes(key_of(stream, stream.in)) : Py_NewRef(Py_None);
        add(Py_BuildValue("(iiNNNNN)", CALL, stream.id, name_of(stream.path), metadata_of(stream),
                          name_of(stream.timeout), bytes(message), key));
    }
    void begin(const Stream& stream) override {
        add(Py_BuildValue("(iiNNN)", BEGIN, stream.id, name_of(stream.path), metadata_of(stream),
                          name_of(stream.timeout)));
    }
    void message(const Stream& stream, std::string_view message) override {
        add(Py_BuildValue("(iiN)", MESSAGE, stream.id, bytes(message)));
    }
    void end(const Stream& stream) override { add(Py_BuildValue("(ii)", END, stream.id)); }
    void reset(const Stream& stream) override { add(Py_BuildValue("(ii)", RESET, stream.id)); }
    void room(const Stream& stream) override {
        if (!stream.unary) add(Py_BuildValue("(ii)", ROOM, stream.id));
    }
    PyObject* taken() {
        PyObject* all = list;
        list = nullptr;
        return all ? all : PyTuple_New(0);
    }

private:
    void add(PyObject* event) {
        if (!event) return;
        if (!list) list = PyList_New(0);
        PyList_Append(list, event);
        Py_DECREF(event);
    }
};

struct TableObject {
    PyObject_HEAD
    Table* table;
};

struct ConnectionObject {
    PyObject_HEAD
    Events* events;
    std::unordered_set<std::string>* unary;
    Session* session;
    PyObject* table;
};

// (name, value) pairs of a sequence; False with an error set where it holds anything else.
bool pairs_of(PyObject* given, Pairs& found) {
    PyObject* fast = PySequence_Fast(given, "metadata is a sequence of pairs");
    if (!fast) return false;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fast); i++) {
        const char *name, *value;
        Py_ssize_t name_size, value_size;
        PyObject* one = PySequence_Fast_GET_ITEM(fast, i);
        if (!PyTuple_Check(one) || !PyArg_ParseTuple(one, "s#s#", &name, &name_size, &value, &value_size)) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "metadata is a sequence of pairs");
            Py_DECREF(fast);
            return false;
        }
        found.emplace_back(std::string(name, name_size), std::string(value, value_size));
    }
    Py_DECREF(fast);
    return true;
}

// ---- Table(limit_bytes)

PyObject* table_new(PyTypeObject* type, PyObject* args, PyObject*) {
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "n", &limit)) return nullptr;
    auto* self = reinterpret_cast<TableObject*>(type->tp_alloc(type, 0));
    if (self) self->table = new Table(static_cast<size_t>(limit));
    return reinterpret_cast<PyObject*>(self);
}

void table_free(PyObject* self) {
    delete reinterpret_cast<TableObject*>(self)->table;
    Py_TYPE(self)->tp_free(self);
}

PyObject* table_put(PyObject* self, PyObject* args) {
    const char *key, *reply;
    Py_ssize_t key_size, reply_size;
    double stored_at, expires_at;
    if (!PyArg_ParseTuple(args, "y#y#dd", &key, &key_size, &reply, &reply_size, &stored_at, &expires_at))
        return nullptr;
    reinterpret_cast<TableObject*>(self)->table->put({std::string(key, key_size),
                                                      prefixed({reply, static_cast<size_t>(reply_size)}),
                                                      stored_at, expires_at});
    Py_RETURN_NONE;
}

PyObject* table_clear(PyObject* self, PyObject*) {
    reinterpret_cast<TableObject*>(self)->table->clear();
    Py_RETURN_NONE;
}

PyObject* table_hits(PyObject* self, void*) {
    return PyLong_FromSize_t(reinterpret_cast<TableObject*>(self)->table->hits);
}

PyMethodDef table_methods[] = {
    {"put", table_put, METH_VARARGS, "key, reply, stored_at, expires_at (unix seconds): answers such requests"},
    {"clear", table_clear, METH_NOARGS, "forgets all"},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef table_gets[] = {{"hits", table_hits, nullptr, "requests answered", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyTypeObject TableType = {PyVarObject_HEAD_INIT(nullptr, 0) "maas_front.Table"};

// ---- Connection(unary paths, table or None, most_message)

PyObject* connection_new(PyTypeObject* type, PyObject* args, PyObject*) {
    PyObject *paths, *table;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "OOn", &paths, &table, &most)) return nullptr;
    PyObject* fast = PySequence_Fast(paths, "paths is a sequence");
    if (!fast) return nullptr;
    auto* self = reinterpret_cast<ConnectionObject*>(type->tp_alloc(type, 0));
    self->events = new Events;
    self->unary = new std::unordered_set<std::string>;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fast); i++)
        self->unary->insert(PyUnicode_AsUTF8(PySequence_Fast_GET_ITEM(fast, i)));
    Py_DECREF(fast);
    self->table = Py_NewRef(table);
    Table* kept = table == Py_None ? nullptr : reinterpret_cast<TableObject*>(table)->table;
    self->events->keyed = kept;
    self->session = new Session(*self->events, *self->unary, kept, static_cast<size_t>(most));
    return reinterpret_cast<PyObject*>(self);
}

void connection_free(PyObject* given) {
    auto* self = reinterpret_cast<ConnectionObject*>(given);
    delete self->session;
    delete self->unary;
    Py_XDECREF(self->events->taken());
    delete self->events;
    Py_XDECREF(self->table);
    Py_TYPE(given)->tp_free(given);
}

Session& session(PyObject* self) { return *reinterpret_cast<ConnectionObject*>(self)->session; }

PyObject* feed(PyObject* self, PyObject* data) {
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)) return nullptr;
    try {
        session(self).feed(static_cast<const uint8_t*>(view.buf), static_cast<size_t>(view.len));
    } catch (const std::exception& error) {
        PyBuffer_Release(&view);
        return PyErr_Format(PyExc_ConnectionError, "%s", error.what());
    }
    PyBuffer_Release(&view);
    return reinterpret_cast<ConnectionObject*>(self)->events->taken();
}

PyObject* drain(PyObject* self, PyObject*) { return bytes(session(self).drain()); }

PyObject* told(PyObject* self, PyObject*) { return reinterpret_cast<ConnectionObject*>(self)->events->taken(); }

PyObject* head(PyObject* self, PyObject* args) {
    int id;
    PyObject* metadata;
    Pairs found;
    if (!PyArg_ParseTuple(args, "iO", &id, &metadata) || !pairs_of(metadata, found)) return nullptr;
    session(self).head(id, found);
    Py_RETURN_NONE;
}

PyObject* send(PyObject* self, PyObject* args) {
    int id;
    const char* message;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "iy#", &id, &message, &size)) return nullptr;
    return PyLong_FromSize_t(session(self).send(id, {message, static_cast<size_t>(size)}));
}

PyObject* finish(PyObject* self, PyObject* args) {
    int id;
    PyObject* trailers;
    Pairs found;
    if (!PyArg_ParseTuple(args, "iO", &id, &trailers) || !pairs_of(trailers, found)) return nullptr;
    session(self).finish(id, std::move(found));
    Py_RETURN_NONE;
}

// head, send and finish at once: what a unary call that went well says.
PyObject* reply(PyObject* self, PyObject* args) {
    int id;
    PyObject *metadata, *trailers;
    const char* message;
    Py_ssize_t size;
    Pairs ahead, after;
    if (!PyArg_ParseTuple(args, "iOy#O", &id, &metadata, &message, &size, &trailers)) return nullptr;
    if (!pairs_of(metadata, ahead) || !pairs_of(trailers, after)) return nullptr;
    Session& to = session(self);
    to.head(id, ahead);
    to.send(id, {message, static_cast<size_t>(size)});
    to.finish(id, std::move(after));
    Py_RETURN_NONE;
}

PyObject* cancel(PyObject* self, PyObject* id) {
    session(self).cancel(static_cast<int32_t>(PyLong_AsLong(id)));
    Py_RETURN_NONE;
}

PyObject* read(PyObject* self, PyObject* args) {
    int id;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "in", &id, &size)) return nullptr;
    session(self).read(id, static_cast<size_t>(size));
    Py_RETURN_NONE;
}

PyObject* go_away(PyObject* self, PyObject*) {
    session(self).go_away();
    Py_RETURN_NONE;
}

PyObject* refuse_new(PyObject* self, PyObject*) {
    session(self).refuse_new();
    Py_RETURN_NONE;
}

PyObject* streams(PyObject* self, void*) { return PyLong_FromSize_t(session(self).streams()); }

PyObject* over(PyObject* self, void*) { return PyBool_FromLong(session(self).over()); }

PyMethodDef connection_methods[] = {
    {"feed", feed, METH_O, "bytes of the peer → events; raises ConnectionError"},
    {"drain", drain, METH_NOARGS, "what is to be written to the peer now"},
    {"told", told, METH_NOARGS, "events that sending brought"},
    {"head", head, METH_VARARGS, "id, metadata: begins a reply"},
    {"send", send, METH_VARARGS, "id, message → bytes that wait for the peer"},
    {"finish", finish, METH_VARARGS, "id, trailers: ends a call"},
    {"reply", reply, METH_VARARGS, "id, metadata, message, trailers: head, send and finish"},
    {"cancel", cancel, METH_O, "id: takes a call back"},
    {"read", read, METH_VARARGS, "id, bytes: so much of a stream was read"},
    {"go_away", go_away, METH_NOARGS, "says that no new calls are wanted soon"},
    {"refuse_new", refuse_new, METH_NOARGS, "takes no new calls from now on"},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef connection_gets[] = {{"streams", streams, nullptr, "calls in progress", nullptr},
                                 {"over", over, nullptr, "whether the connection has ended", nullptr},
                                 {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyTypeObject ConnectionType = {PyVarObject_HEAD_INIT(nullptr, 0) "maas_front.Connection"};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "maas_front", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};

int add_type(PyObject* to, PyTypeObject& type, const char* name, size_t size, newfunc make, destructor end,
             PyMethodDef* methods, PyGetSetDef* gets) {
    type.tp_basicsize = static_cast<Py_ssize_t>(size);
    type.tp_flags = Py_TPFLAGS_DEFAULT;
    type.tp_new = make;
    type.tp_dealloc = end;
    type.tp_methods = methods;
    type.tp_getset = gets;
    return PyType_Ready(&type) || PyModule_AddObjectRef(to, name, reinterpret_cast<PyObject*>(&type));
}

}  // namespace

PyMODINIT_FUNC PyInit_maas_front() {
    PyObject* made = PyModule_Create(&module);
    if (!made) return nullptr;
    if (add_type(made, TableType, "Table", sizeof(TableObject), table_new, table_free, table_methods, table_gets) ||
        add_type(made, ConnectionType, "Connection", sizeof(ConnectionObject), connection_new, connection_free,
                 connection_methods, connection_gets))
        return nullptr;
    return made;
}
