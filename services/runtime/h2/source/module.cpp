// The Python face of session.h: a Connection a socket. Every function is called by the one thread of a loop.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <memory>
#include <stdexcept>
#include <utility>

#include "session.h"

namespace {

enum Kind { CALL, BEGIN, MESSAGE, END, RESET, ROOM };

PyObject* text(std::string_view given) {
    return PyUnicode_DecodeLatin1(given.data(), static_cast<Py_ssize_t>(given.size()), nullptr);
}

PyObject* bytes(std::string_view given) {
    return PyBytes_FromStringAndSize(given.data(), static_cast<Py_ssize_t>(given.size()));
}

// The same few names come in every call: made once, and kept to the end of the process.
PyObject* name_of(const std::string& given) {
    static auto& names = *new std::unordered_map<std::string, PyObject*>;
    const auto found = names.find(given);
    if (found != names.end()) return Py_NewRef(found->second);
    PyObject* made = text(given);
    if (made && names.size() < 256) names.emplace(given, Py_NewRef(made));
    return made;
}

PyObject* metadata_of(const Stream& stream) {
    PyObject* all = PyTuple_New(static_cast<Py_ssize_t>(stream.metadata.size()));
    Py_ssize_t at = 0;
    for (const auto& [name, value] : stream.metadata) {
        PyObject* one = all ? Py_BuildValue("(NN)", name_of(name), text(value)) : nullptr;
        if (one) PyTuple_SET_ITEM(all, at++, one);
        else Py_CLEAR(all);
    }
    return all;
}

// Events are tuples: kind, stream, and what else there is to tell.
class Events final : public Told {
public:
    void call(const Stream& stream, std::string_view message, bool packed) override {
        add(Py_BuildValue("(iiNNNNN)", CALL, stream.id, name_of(stream.path), metadata_of(stream),
                          text(stream.timeout), bytes(message), encoding(stream, packed)));
    }
    void begin(const Stream& stream) override {
        add(Py_BuildValue("(iiNNN)", BEGIN, stream.id, name_of(stream.path), metadata_of(stream),
                          text(stream.timeout)));
    }
    void message(const Stream& stream, std::string_view message, bool packed) override {
        add(Py_BuildValue("(iiNN)", MESSAGE, stream.id, bytes(message), encoding(stream, packed)));
    }
    void end(const Stream& stream) override { add(Py_BuildValue("(ii)", END, stream.id)); }
    void reset(const Stream& stream) override { add(Py_BuildValue("(ii)", RESET, stream.id)); }
    void room(const Stream& stream) override {
        if (!stream.unary) add(Py_BuildValue("(ii)", ROOM, stream.id));
    }
    PyObject* taken() {
        PyObject* all = std::exchange(list_, nullptr);
        return all ? all : PyTuple_New(0);
    }

private:
    static PyObject* encoding(const Stream& stream, bool packed) {
        return name_of(!packed ? "" : stream.encoding.empty() ? "identity" : stream.encoding);
    }

    // An event that is lost would be a call without an end: the connection ends instead.
    void add(PyObject* event) {
        const bool added = event && (list_ || (list_ = PyList_New(0))) && !PyList_Append(list_, event);
        Py_XDECREF(event);
        if (added) return;
        PyErr_Clear();
        throw std::bad_alloc();
    }

    PyObject* list_ = nullptr;
};

struct ConnectionObject {
    PyObject_HEAD
    Events* events;
    Paths* unary;
    Session* session;
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

// Does `work`, or sets what went wrong as Python's error.
template <typename Work> PyObject* guarded(const Work& work) noexcept {
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    } catch (const std::exception& error) {
        return PyErr_Format(PyExc_ConnectionError, "%s", error.what());
    }
}

// Connection(unary paths, most bytes of a message, most streams at once)
PyObject* connection_new(PyTypeObject* type, PyObject* args, PyObject*) {
    PyObject* paths;
    Py_ssize_t most;
    unsigned int streams;
    if (!PyArg_ParseTuple(args, "O!nI", &PyTuple_Type, &paths, &most, &streams)) return nullptr;
    PyObject* made = type->tp_alloc(type, 0);
    auto* self = reinterpret_cast<ConnectionObject*>(made);
    if (!made) return nullptr;
    PyObject* opened = guarded([&]() -> PyObject* {
        self->events = new Events;
        self->unary = new Paths;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(paths); i++) {
            const char* path = PyUnicode_AsUTF8(PyTuple_GET_ITEM(paths, i));
            if (!path) return nullptr;
            self->unary->insert(path);
        }
        self->session = new Session(*self->events, *self->unary, static_cast<size_t>(most), streams);
        return made;
    });
    if (!opened) Py_DECREF(made);
    return opened;
}

void connection_free(PyObject* given) {
    auto* self = reinterpret_cast<ConnectionObject*>(given);
    delete self->session;
    delete self->unary;
    if (self->events) Py_XDECREF(self->events->taken());
    delete self->events;
    Py_TYPE(given)->tp_free(given);
}

Session& session(PyObject* self) { return *reinterpret_cast<ConnectionObject*>(self)->session; }

PyObject* told(PyObject* self, PyObject*) { return reinterpret_cast<ConnectionObject*>(self)->events->taken(); }

PyObject* feed(PyObject* self, PyObject* data) {
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)) return nullptr;
    PyObject* events = guarded([&] {
        session(self).feed(static_cast<const uint8_t*>(view.buf), static_cast<size_t>(view.len));
        return told(self, nullptr);
    });
    PyBuffer_Release(&view);
    return events;
}

PyObject* drain(PyObject* self, PyObject*) {
    return guarded([&] { return bytes(session(self).drain()); });
}

PyObject* head(PyObject* self, PyObject* args) {
    return guarded([&]() -> PyObject* {
        int id;
        PyObject* metadata;
        Pairs found;
        if (!PyArg_ParseTuple(args, "iO", &id, &metadata) || !pairs_of(metadata, found)) return nullptr;
        session(self).head(id, found);
        Py_RETURN_NONE;
    });
}

PyObject* send(PyObject* self, PyObject* args) {
    int id;
    const char* message;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "iy#", &id, &message, &size)) return nullptr;
    return guarded([&] { return PyLong_FromSize_t(session(self).send(id, {message, static_cast<size_t>(size)})); });
}

PyObject* finish(PyObject* self, PyObject* args) {
    return guarded([&]() -> PyObject* {
        int id;
        PyObject* trailers;
        Pairs found;
        if (!PyArg_ParseTuple(args, "iO", &id, &trailers) || !pairs_of(trailers, found)) return nullptr;
        session(self).finish(id, std::move(found));
        Py_RETURN_NONE;
    });
}

// head, send and finish at once: what a unary call that went well says.
PyObject* reply(PyObject* self, PyObject* args) {
    return guarded([&]() -> PyObject* {
        int id;
        PyObject *metadata, *trailers;
        const char* message;
        Py_ssize_t size;
        Pairs ahead, after;
        if (!PyArg_ParseTuple(args, "iOy#O", &id, &metadata, &message, &size, &trailers)) return nullptr;
        if (!pairs_of(metadata, ahead) || !pairs_of(trailers, after)) return nullptr;
        session(self).reply(id, ahead, {message, static_cast<size_t>(size)}, std::move(after));
        Py_RETURN_NONE;
    });
}

PyObject* read(PyObject* self, PyObject* args) {
    int id;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "in", &id, &size)) return nullptr;
    session(self).read(id, static_cast<size_t>(size));
    Py_RETURN_NONE;
}

// A function of the session that takes nothing and tells nothing.
template <void (Session::*work)()> PyObject* plain(PyObject* self, PyObject*) {
    return guarded([&] {
        (session(self).*work)();
        return Py_NewRef(Py_None);
    });
}

PyObject* unanswered(PyObject* self, void*) { return PyBool_FromLong(session(self).unanswered()); }

PyObject* over(PyObject* self, void*) { return PyBool_FromLong(session(self).over()); }

PyMethodDef connection_methods[] = {
    {"feed", feed, METH_O, "bytes of the peer → events; raises ConnectionError"},
    {"drain", drain, METH_NOARGS, "a piece of what is to be written to the peer now; empty when that is all"},
    {"told", told, METH_NOARGS, "events that sending brought"},
    {"head", head, METH_VARARGS, "id, metadata: begins a reply"},
    {"send", send, METH_VARARGS, "id, message → bytes that wait for the peer"},
    {"finish", finish, METH_VARARGS, "id, trailers: ends a call"},
    {"reply", reply, METH_VARARGS, "id, metadata, message, trailers: head, send and finish"},
    {"read", read, METH_VARARGS, "id, bytes: so much of a stream was read"},
    {"sweep", plain<&Session::sweep>, METH_NOARGS, "ends what waits for the peer and has not moved since the last one"},
    {"ping", plain<&Session::ping>, METH_NOARGS, "asks whether the peer is there; `unanswered` until it says so"},
    {"go_away", plain<&Session::go_away>, METH_NOARGS, "asks for no more calls, and refuses them once the peer has heard of it"},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef connection_gets[] = {
    {"unanswered", unanswered, nullptr, "whether the peer owes an answer to a ping", nullptr},
    {"over", over, nullptr, "whether the connection has ended", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyTypeObject ConnectionType = {PyVarObject_HEAD_INIT(nullptr, 0) "maas_h2.Connection"};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "maas_h2", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_maas_h2() {
    ConnectionType.tp_basicsize = sizeof(ConnectionObject);
    ConnectionType.tp_flags = Py_TPFLAGS_DEFAULT;
    ConnectionType.tp_new = connection_new;
    ConnectionType.tp_dealloc = connection_free;
    ConnectionType.tp_methods = connection_methods;
    ConnectionType.tp_getset = connection_gets;
    PyObject* made = PyModule_Create(&module);
    if (!made || PyType_Ready(&ConnectionType)) return nullptr;
    if (PyModule_AddObjectRef(made, "Connection", reinterpret_cast<PyObject*>(&ConnectionType))) return nullptr;
    return made;
}
