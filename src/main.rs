fn main() {
    for (_, crd) in sheave::api::crds() {
        print!("---\n{}", sheave::api::render(&crd).unwrap());
    }
}
