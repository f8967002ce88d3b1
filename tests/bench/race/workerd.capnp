# The reference runtime with the objects of worker.js; PORT is replaced when it is started.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .race)],
  sockets = [(name = "http", address = "127.0.0.1:PORT", http = (), service = "main")],
);

const race :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "worker.js")],
  compatibilityDate = "2025-01-01",
  durableObjectNamespaces = [
    (className = "Echo", uniqueKey = "race-echo"),
    (className = "Cast", uniqueKey = "race-cast"),
    (className = "Wake", uniqueKey = "race-wake"),
  ],
  durableObjectStorage = (inMemory = void),
  bindings = [
    (name = "echo", durableObjectNamespace = "Echo"),
    (name = "cast", durableObjectNamespace = "Cast"),
    (name = "wake", durableObjectNamespace = "Wake"),
  ],
);
