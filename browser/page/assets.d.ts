// What the bundler makes of an import that is no module.
declare module "*.css";
