'use strict';
// What code finds around it: the globals of a CommonJS module in the session's folder, and packages, first those in the folder
// (`npm install`), then the image's, for `require` and for `import` alike.

const { createRequire, registerHooks } = require('node:module');
const { join } = require('node:path');
const { pathToFileURL } = require('node:url');
const { stackOf } = require('./failures');
const { allowImports } = require('./inside');

const IMAGE = join(__dirname, '..', 'lib', 'node_modules');
const BARE = /^[^./#]|^\.[^./]/;
const NOT_FOUND = { __proto__: null, ERR_MODULE_NOT_FOUND: true, MODULE_NOT_FOUND: true };

/** The image's packages for whoever does not find one. (NODE_PATH, which child processes inherit, is for `require` only.) */
function offerPackages() {
  const parentURL = pathToFileURL(join(IMAGE, '..', 'index.js')).href;
  registerHooks({
    __proto__: null,
    resolve(specifier, context, next) {
      try {
        return next(specifier, context);
      } catch (error) {
        if (NOT_FOUND[error?.code] !== true || !BARE.test(specifier) || context.parentURL === parentURL) throw error;
        try {
          return next(specifier, { ...context, parentURL });
        } catch {
          throw error;
        }
      }
    },
  });
}

/** What names are imported from: of a CommonJS package all that it has, also what Node does not see from outside (most of lodash). */
function named(namespace) {
  const { default: whole } = namespace;
  const isObject = (typeof whole === 'object' && whole !== null) || typeof whole === 'function';
  if (!isObject || !('module.exports' in namespace)) return namespace;
  return Object.assign(Object.create(whole), namespace);
}

function define(name, value) {
  Object.defineProperty(globalThis, name, { __proto__: null, configurable: true, writable: true, value });
}

/** `folder` is where the code is at home. Returns what stands for `import.meta`. */
function install(folder) {
  const filename = join(folder, 'cell.js');
  const require = createRequire(filename);
  const module = { exports: {}, filename, id: '.', loaded: false, paths: require.resolve.paths('x'), children: [] };
  for (const name of Object.keys(require.cache)) delete require.cache[name]; // the guest's own files
  define('require', require);
  define('module', module);
  define('exports', module.exports);
  define('__filename', filename);
  define('__dirname', folder);
  process.argv = [process.execPath];
  process.execArgv = []; // child_process.fork and workers would take the guest's flags over
  Object.defineProperty(Error, 'prepareStackTrace', { __proto__: null, configurable: true, writable: true, value: stackOf });
  allowImports();
  offerPackages();
  const url = pathToFileURL(filename).href;
  return { __proto__: null, url, filename, dirname: folder, main: true, resolve: (name) => pathToFileURL(require.resolve(name)).href };
}

module.exports = { __proto__: null, install, named };
